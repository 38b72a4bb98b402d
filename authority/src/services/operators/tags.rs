//! Which tags may sign for which terminal, and who makes their keys?

use protocol::ids::TerminalId;
use protocol::problem::{Problem, ProblemType};
use protocol::sun::{TagUid, key_file};
use protocol::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::fence::unwritten;
use super::{LIST_MAX, Verb, check_name, refused};
use crate::app::App;
use crate::services::Failure;
use crate::services::taps::keys_of_tag;
use crate::store::{NewTag, TAGS_PER_TERMINAL_MAX, TagAdded, TagRecord};

/// Why a tag is retired, if nobody says.
const RETIRED: &str = "an operator retired it";

/// New keys for a tag of this terminal: each time of a new version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagKeys {
    pub terminal: TerminalId,
    pub uid: TagUid,
}

/// The file that `m2key-agent tag personalise` reads.
#[derive(Debug, Serialize, Deserialize)]
pub struct TagKeysView {
    pub terminal: TerminalId,
    pub uid: TagUid,
    pub key_version: u8,
    pub file: KeyText,
}

/// The text of a key file on its way to who asked for it. Mute, but in the answer itself.
pub struct KeyText(Zeroizing<String>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagList {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub terminal: Option<TerminalId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<TagUid>,
}

/// Every set of keys that one tag ever had.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagShow {
    pub uid: TagUid,
}

/// Refuses the links of a tag from now on: it is lost, stolen, replaced, or signs no more.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagRetire {
    pub uid: TagUid,
    #[serde(default)]
    pub reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Tags {
    pub tags: Vec<TagView>,
}

/// One tag with one set of keys.
#[derive(Debug, Serialize, Deserialize)]
pub struct TagView {
    pub uid: TagUid,
    pub key_version: u8,
    pub terminal: TerminalId,
    /// `made`: nobody has seen it with these keys; `signing`; `retired`.
    pub state: String,
    /// The label of the key from which its keys follow.
    pub master: String,
    pub made_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signing_since: Option<Timestamp>,
    /// When its terminal last said that it wrote it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub written_at: Option<Timestamp>,
    /// A link counts only above this count.
    pub read_floor: u32,
    /// How many of its taps spent a token.
    pub taps: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retired_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retired_because: Option<String>,
}

impl Verb for TagKeys {
    const NAME: &'static str = "tag-keys";
    const CHANGES: bool = true;
    type Answer = TagKeysView;

    /// The keys are answered only once it is on the disk that somebody has them.
    async fn run(self, app: &App) -> Result<TagKeysView, Failure> {
        let keyring = app.keyring();
        let master = keyring.tag_master().ok_or_else(no_master)?;
        let retired = retired_up_to(app, self.uid).await?;
        let next = app.store.next_key_version(self.uid, retired).await?;
        let key_version = next.ok_or_else(|| {
            let detail = format!(
                "tag {} has had 255 versions of keys: take another",
                self.uid
            );
            refused(ProblemType::AlreadyExists, detail)
        })?;
        let keys = keys_of_tag(app, &master.label, self.uid, key_version).await?;
        let added = app.store.add_tag(NewTag {
            uid: self.uid,
            key_version,
            terminal: self.terminal,
            master: master.kid.clone(),
            at: app.clock.now(),
        });
        match added.await? {
            TagAdded::Added => {}
            TagAdded::Moved => return Err(ProblemType::Busy.into()),
            TagAdded::TerminalRefused => {
                let detail = format!("no terminal {}, or it is banned", self.terminal);
                return Err(refused(ProblemType::Unknown, detail));
            }
            TagAdded::SignsElsewhere => return Err(signs_elsewhere(self.uid)),
            TagAdded::TooMany => return Err(too_many(self.terminal)),
        }
        let host = &app.config.public.link_host;
        let file = key_file(self.uid, key_version, &keys, Some(host));
        Ok(TagKeysView {
            terminal: self.terminal,
            uid: self.uid,
            key_version,
            file: KeyText::new(file.expose()),
        })
    }
}

impl KeyText {
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// For the one place that writes it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Serialize for KeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyText(..)")
    }
}

impl Verb for TagList {
    const NAME: &'static str = "tag-list";
    const CHANGES: bool = false;
    type Answer = Tags;

    async fn run(self, app: &App) -> Result<Tags, Failure> {
        let after = self.after.map(|uid| (uid, u8::MAX));
        let tags = app.store.tags(self.terminal, after, LIST_MAX).await?;
        Ok(views(app, tags))
    }
}

impl Verb for TagShow {
    const NAME: &'static str = "tag-show";
    const CHANGES: bool = false;
    type Answer = Tags;

    async fn run(self, app: &App) -> Result<Tags, Failure> {
        known(app, self.uid).await
    }
}

impl Verb for TagRetire {
    const NAME: &'static str = "tag-retire";
    const CHANGES: bool = true;
    type Answer = Tags;

    async fn run(self, app: &App) -> Result<Tags, Failure> {
        let because = match self.reason.is_empty() {
            true => RETIRED.to_owned(),
            false => self.reason,
        };
        check_name(&because)?;
        let now = app.clock.now();
        let retired = app.store.retire_tag(self.uid, because, now).await?;
        retired.ok_or_else(|| unknown(self.uid))?;
        known(app, self.uid).await
    }
}

/// As the journal knows: after a restore the database may lack the keys that were retired last, and the same
/// version would bring them back.
async fn retired_up_to(app: &App, uid: TagUid) -> Result<u8, Failure> {
    match app.fence.journal() {
        Some(journal) => Ok(journal.known().await.map_err(unwritten)?.retired_up_to(uid)),
        None => Ok(0),
    }
}

async fn known(app: &App, uid: TagUid) -> Result<Tags, Failure> {
    let tags = app.store.tag(uid).await?;
    match tags.is_empty() {
        true => Err(unknown(uid)),
        false => Ok(views(app, tags)),
    }
}

fn views(app: &App, tags: Vec<TagRecord>) -> Tags {
    let keyring = app.keyring();
    let label = |kid: &str| {
        let key = keyring.records().iter().find(|key| key.kid == kid);
        key.map_or_else(|| kid.to_owned(), |key| key.label.0.clone())
    };
    let view = |tag: TagRecord| {
        let master = label(&tag.master);
        TagView {
            master,
            ..tag.into()
        }
    };
    Tags {
        tags: tags.into_iter().map(view).collect(),
    }
}

impl From<TagRecord> for TagView {
    fn from(tag: TagRecord) -> Self {
        let state = match (&tag.retired, tag.signing_since) {
            (Some(_), _) => "retired",
            (None, Some(_)) => "signing",
            (None, None) => "made",
        };
        let (retired_at, retired_because) = tag.retired.unzip();
        Self {
            uid: tag.uid,
            key_version: tag.key_version,
            terminal: tag.terminal,
            state: state.into(),
            master: tag.master,
            made_at: tag.made_at,
            signing_since: tag.signing_since,
            written_at: tag.written_at,
            read_floor: tag.read_floor,
            taps: tag.taps,
            retired_at,
            retired_because,
        }
    }
}

fn no_master() -> Failure {
    Problem::new(ProblemType::WrongKeyState)
        .with_detail("there is no key for tags yet: key prepare tag, then key activate tag")
        .into()
}

fn signs_elsewhere(uid: TagUid) -> Failure {
    let detail = format!(
        "tag {uid} signs at another terminal (tag show {uid}): retire it there first (tag retire {uid})"
    );
    refused(ProblemType::AlreadyExists, detail)
}

fn too_many(terminal: TerminalId) -> Failure {
    let detail = format!(
        "terminal {terminal} has {TAGS_PER_TERMINAL_MAX} sets of keys that count: retire the tags \
         that are gone (tag list --terminal {terminal})"
    );
    refused(ProblemType::AlreadyExists, detail)
}

fn unknown(uid: TagUid) -> Failure {
    let detail = format!("no keys were ever made for tag {uid}");
    refused(ProblemType::Unknown, detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_told_in_the_answer_and_nowhere_else() {
        let view = TagKeysView {
            terminal: TerminalId::from_number(1).unwrap(),
            uid: TagUid::from_bytes([4; 7]),
            key_version: 1,
            file: KeyText::new("mac = \"00112233\""),
        };
        let answer = serde_json::to_string(&view).unwrap();
        assert!(answer.contains("00112233"), "{answer}");
        assert!(!format!("{view:?}").contains("00112233"), "{view:?}");
        let heard: TagKeysView = serde_json::from_str(&answer).unwrap();
        assert_eq!(heard.file.expose(), view.file.expose());
    }
}
