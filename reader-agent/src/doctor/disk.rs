//! Is there room for what must survive a power cut?

use std::path::Path;

use super::{Finding, Mover};
use crate::platform::{self, Room};

const SUBJECT: &str = "disk";
/// Less is a matter of days, with what else writes on a PC.
const ROOM_LOW: u64 = 200 << 20;
/// Less, and the next report may find none.
const ROOM_NONE: u64 = 16 << 20;

pub(super) fn look(data_dir: &Path) -> Finding {
    match platform::room(data_dir) {
        Ok(Some(room)) => judge(room),
        Ok(None) => Finding::ok(SUBJECT, "not looked at on this system"),
        Err(error) => Finding::broken(
            SUBJECT,
            format!("{} cannot be looked at ({error})", data_dir.display()),
            Mover::Installer,
            "check the disk and the directory",
        ),
    }
}

fn judge(room: Room) -> Finding {
    let free = format!("{} MB are free", room.free_bytes >> 20);
    let clear = "delete what is not needed on this PC: downloads, old logs, the waste basket";
    if room.is_read_only {
        return Finding::broken(
            SUBJECT,
            "nothing can be written: the disk is read-only",
            Mover::Installer,
            "find out why it was mounted so (a failing disk often is), then restart this PC",
        );
    }
    match room.free_bytes {
        0..ROOM_NONE => Finding::broken(
            SUBJECT,
            format!("it is full: {free}"),
            Mover::Merchant,
            clear,
        ),
        ROOM_NONE..ROOM_LOW => Finding::attention(SUBJECT, free, Mover::Merchant, clear),
        _ => Finding::ok(SUBJECT, free),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_disk_is_broken_when_it_is_full_or_read_only_and_wants_attention_before() {
        let judged = |free_bytes, is_read_only| {
            judge(Room {
                free_bytes,
                is_read_only,
            })
            .verdict
        };
        assert_eq!(judged(0, false), Verdict::Broken);
        assert_eq!(judged(ROOM_NONE, false), Verdict::Attention);
        assert_eq!(judged(ROOM_LOW, false), Verdict::Ok);
        assert_eq!(judged(ROOM_LOW, true), Verdict::Broken);
    }
}
