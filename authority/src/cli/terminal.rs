//! `m2key-authority terminal …`: how do terminals come and go?

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::ids::{MerchantId, TerminalId};

use super::daemon::{Desk, ask};
use super::{Arguments, CliError, Exit, Say, tell};
use crate::services::join::JoinTokenId;
use crate::services::operators::{
    self, JoinTokenList, JoinTokenRevoke, JoinTokenView, JoinTokens, JoinView, TerminalAdd,
    TerminalBan, TerminalJoin, TerminalList, TerminalShow, TerminalUnban, TerminalView, Terminals,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Add a terminal of a merchant: makes its seed in the HSM and a join token for the machine
    Add {
        #[arg(long)]
        merchant: MerchantId,
        /// Where it stands, e.g. "Counter 2"
        #[arg(long, default_value = "")]
        name: String,
        /// Write the join token to this new file (mode 0600) instead of showing it
        #[arg(long)]
        join_token_file: Option<PathBuf>,
    },
    /// Make a further join token, e.g. after the PC was replaced; or list them and take them back
    Join(Join),
    /// List terminals
    List {
        /// Only those after this one
        #[arg(long)]
        after: Option<TerminalId>,
    },
    /// Show one terminal
    Show { terminal: TerminalId },
    /// Refuse everything from and for this terminal, at once
    Ban {
        terminal: TerminalId,
        /// Why, for the audit chain
        #[arg(long)]
        reason: String,
    },
    /// Take a banned terminal back: a new seed, and a join token to enrol with
    Unban {
        terminal: TerminalId,
        /// Why, for the audit chain
        #[arg(long)]
        reason: String,
        /// Write the join token to this new file (mode 0600) instead of showing it
        #[arg(long)]
        join_token_file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Join {
    /// Which terminal gets a further join token
    #[arg(required = true)]
    terminal: Option<TerminalId>,
    /// Write the join token to this new file (mode 0600) instead of showing it
    #[arg(long)]
    join_token_file: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<JoinVerb>,
}

#[derive(Debug, Subcommand)]
enum JoinVerb {
    /// List join tokens that can still be used, newest first
    List {
        /// Of this terminal only
        #[arg(long)]
        terminal: Option<TerminalId>,
        /// Used, expired and revoked ones, too
        #[arg(long)]
        all: bool,
    },
    /// Take a join token back: from now on it answers nothing
    Revoke {
        /// As `terminal join list` shows it
        id: JoinTokenId,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Add {
            merchant,
            name,
            join_token_file,
        } => {
            let verb = TerminalAdd {
                merchant: *merchant,
                name: name.clone(),
            };
            hand_over(arguments, join_token_file.as_deref(), verb)
        }
        Verb::Join(join) => run_join(arguments, join),
        Verb::List { after } => {
            tell(arguments, &ask(arguments, TerminalList { after: *after })?);
            Ok(())
        }
        Verb::Show { terminal } => {
            let verb = TerminalShow {
                terminal: *terminal,
            };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
        Verb::Ban { terminal, reason } => {
            let verb = TerminalBan {
                terminal: *terminal,
                reason: reason.clone(),
            };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
        Verb::Unban {
            terminal,
            reason,
            join_token_file,
        } => {
            let verb = TerminalUnban {
                terminal: *terminal,
                reason: reason.clone(),
            };
            hand_over(arguments, join_token_file.as_deref(), verb)
        }
    }
}

fn run_join(arguments: &Arguments, join: &Join) -> Result<(), CliError> {
    match (&join.verb, join.terminal) {
        (Some(JoinVerb::List { terminal, all }), _) => {
            let verb = JoinTokenList {
                terminal: *terminal,
                all: *all,
            };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
        (Some(JoinVerb::Revoke { id }), _) => {
            let verb = JoinTokenRevoke { id: id.to_string() };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
        (None, Some(terminal)) => {
            let file = join.join_token_file.as_deref();
            hand_over(arguments, file, TerminalJoin { terminal })
        }
        (None, None) => Err(CliError::new(
            Exit::Usage,
            "which terminal?",
            "m2key-authority terminal join <TERMINAL>, or terminal join list",
        )),
    }
}

/// The file is made first: a join token that cannot be put anywhere is not asked for.
fn hand_over<V: operators::Verb<Answer = JoinView>>(
    arguments: &Arguments,
    file: Option<&Path>,
    verb: V,
) -> Result<(), CliError> {
    let desk = Desk::open(arguments)?;
    let Some(path) = file else {
        tell(arguments, &desk.ask(verb)?);
        return Ok(());
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let failed = |error| CliError::file(path, &error);
    let mut file = options.open(path).map_err(failed)?;
    let mut view = desk.ask(verb).inspect_err(|_| {
        // Nothing is in it; the refusal is what matters.
        let _ = std::fs::remove_file(path);
    })?;
    let token = std::mem::replace(&mut view.join_token, format!("in {}", path.display()));
    writeln!(file, "{token}").map_err(failed)?;
    tell(arguments, &view);
    Ok(())
}

impl Say for JoinView {
    fn say(&self) -> String {
        let Self {
            terminal,
            join_token,
            id,
            expires_at,
        } = self;
        format!(
            "terminal    {terminal}\njoin token  {join_token}\nid          {id}\n\
             good until  {expires_at}, once"
        )
    }
}

impl Say for JoinTokenView {
    fn say(&self) -> String {
        let Self {
            id,
            terminal,
            state,
            expires_at,
            ..
        } = self;
        format!("{id}  {terminal}  {state:7}  until {expires_at}")
    }
}

impl Say for JoinTokens {
    fn say(&self) -> String {
        if self.join_tokens.is_empty() {
            return "no join tokens".into();
        }
        let mut lines: Vec<_> = self.join_tokens.iter().map(Say::say).collect();
        if self.more {
            lines.push("and older ones: ask for those of one terminal with --terminal".into());
        }
        lines.join("\n")
    }
}

impl Say for TerminalView {
    fn say(&self) -> String {
        let mut text = format!(
            "terminal   {}\nmerchant   {}\nname       {}\nadded      {}\nschedules  {}",
            self.terminal, self.merchant, self.name, self.added_at, self.schedules
        );
        if let Some(until) = self.scheduled_until {
            text += &format!(", until {until}");
        }
        if let Some(sequence) = self.trust_sequence {
            text += &format!("\nroots      list {sequence}");
        }
        if let Some(tag) = &self.tag {
            text += &format!(
                "\ntag        {}, {} % used, {} days left, replace by {}",
                tag.tag_uid, tag.percent_used, tag.days_left, tag.replace_by
            );
        }
        if let Some(slowed) = &self.slowed {
            let longest_s = slowed.longest_window_ms / 1_000;
            text += &format!(
                "\nslowed     from {} on: windows up to {longest_s} s",
                slowed.from
            );
        }
        if let (Some(at), Some(reason)) = (self.banned_at, &self.ban_reason) {
            text += &format!("\nbanned     {at}: {reason}");
        }
        text
    }
}

impl Say for Terminals {
    fn say(&self) -> String {
        if self.terminals.is_empty() {
            return "no terminals".into();
        }
        let line = |t: &TerminalView| {
            let state = if t.banned_at.is_some() {
                "banned"
            } else {
                "active"
            };
            let tag = t.tag.as_ref().map_or_else(String::new, |tag| {
                format!("  tag: {} days left", tag.days_left)
            });
            format!("{}  {state}  {}  {}{tag}", t.terminal, t.merchant, t.name)
        };
        let lines: Vec<_> = self.terminals.iter().map(line).collect();
        lines.join("\n")
    }
}
