//! What did this process acknowledge, and does the server that came back hold it?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use protocol::audit::Head;

use super::SqlStore;
use super::conn::{Conn, params};
use super::fence::missing::{contains, differs};
use super::row::{get, one};
use crate::journal::{Known, hex};
use crate::store::postgres;
use crate::store::{Difference, Result, Server, Timelines};

/// The last row of each chain whose commit was acknowledged to somebody.
#[derive(Default)]
pub(super) struct Acknowledged(Mutex<BTreeMap<String, (u64, [u8; 32])>>);

impl Acknowledged {
    pub(super) fn reached(&self, chain: &str, end: (u64, [u8; 32])) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(chain) {
            Some(known) => *known = end,
            None => {
                all.insert(chain.to_owned(), end);
            }
        }
    }

    fn heads(&self) -> Vec<Head> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let head = |(node, (sequence, hash)): (&String, &(u64, [u8; 32]))| Head {
            node: node.clone(),
            sequence: *sequence,
            hash: hex(hash),
        };
        all.iter().map(head).collect()
    }
}

#[async_trait]
impl Timelines for SqlStore {
    fn server_in_question(&self) -> Option<Server> {
        self.server.as_ref()?.question()
    }

    async fn differs_in_question(&self, known: Arc<Known>) -> Result<Difference> {
        let heads = self.acknowledged.heads();
        let compare = move |conn: &Conn| {
            let mut difference = differs(conn, &known)?;
            for head in &heads {
                if !contains(conn, head)? && !difference.missing.heads.contains(head) {
                    difference.missing.heads.push(head.clone());
                }
            }
            Ok(difference)
        };
        match &self.server {
            Some(server) => postgres::ask_in_question(server.clone(), compare).await,
            None => self.read(compare).await,
        }
    }

    fn accept_server(&self, server: Server) {
        if let Some(connect) = &self.server {
            connect.accept(server);
        }
    }

    async fn synchronous_standbys(&self) -> Result<u32> {
        self.read(|conn| match conn {
            Conn::Sqlite(_) => Ok(0),
            Conn::Postgres(_) => one(
                conn,
                "SELECT count(*) AS standbys FROM pg_stat_replication
                 WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')
                   AND current_setting('synchronous_standby_names') <> ''",
                params![],
                |row| get(row, "standbys"),
            ),
        })
        .await
    }
}
