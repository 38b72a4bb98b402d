//! What must hold of a terminal, whatever has happened?

use super::*;

impl World {
    /// What screens and tag show is right, at every moment; in peace it is also there.
    pub(super) fn assert_shown(&mut self, in_peace: bool) {
        self.assert_board();
        self.assert_tag(in_peace);
        if in_peace {
            let faces = self.terminal().board.borrow().faces.clone();
            assert!(faces.qr.is_ok() && faces.nfc.is_ok(), "{faces:?}");
        }
    }

    pub(super) fn assert_board(&mut self) {
        let now = self.now();
        let terminal = self.terminal();
        let heard = terminal.driver.clock.is_heard();
        self.knows_time |= heard;
        // Of a machine that was started without the authority the wall clock is all there is.
        if !self.knows_time {
            return;
        }
        let terminal = self.terminal();
        let faces = terminal.board.borrow().faces.clone();
        let horizon = self.authority.horizon();
        for face in [&faces.nfc, &faces.qr, &faces.code].into_iter().flatten() {
            let told = self.told.get(&face.window).copied().unwrap_or(0);
            assert!(face.turn >= told, "{face:?} again, after turn {told}");
            let in_time = face.opens <= now && now <= face.closes + self.late;
            assert!(in_time, "{face:?} is shown at {now}");
            assert!(Some(face.closes) <= horizon, "{face:?} of no schedule");
        }
        // A clock that is late shows what the authority may not take any more.
        if !self.is_in_touch() || self.late > 0 || self.right.as_ref() == Some(&faces) {
            return;
        }
        for face in [&faces.nfc, &faces.qr].into_iter().flatten() {
            assert!(self.takes(face), "{face:?} is shown and not taken");
        }
        self.right = Some(faces);
    }

    /// Of what a phone can read only the token of the moment is left, once the tag could be written.
    fn assert_tag(&mut self, in_peace: bool) {
        let now = self.now();
        let tries_again = self.terminal().memory.next_try().is_some();
        let knows_time = self.knows_time;
        let place = self.place();
        let unguarded = place.is_scrawled_on && !self.is_guarded;
        if tries_again || !(place.lies_there && place.plugged) || !knows_time || unguarded {
            return;
        }
        let found = place.tag.clone().and_then(|mut tag| tag.read_by_phone());
        drop(place);
        let link = found.map(|message| ndef::read_uri(&message).unwrap());
        let face = self.terminal().board.borrow().faces.nfc.clone();
        match (link, face) {
            (Some(link), Ok(face)) => {
                assert_eq!(unsigned(&link), face.text(), "at {now}");
            }
            (Some(link), Err(blank)) => panic!("{link} on the tag at {now}, but: {blank}"),
            (None, Ok(face)) => {
                self.nfc_claims.retain(|at| *at + HOUR_MS > now);
                let spent = self.nfc_claims.len() >= FRUITLESS_WRITES_MAX;
                assert!(
                    spent && !in_peace,
                    "{face:?} at {now}, and nothing on the tag"
                );
            }
            (None, Err(_)) => {}
        }
    }

    /// Every report arrived once and in order, and every tap is in one.
    pub(super) fn assert_told(&mut self) {
        let arrived = self.authority.reports.iter().map(|event| event.id);
        assert_eq!(arrived.collect::<Vec<_>>(), self.made);
        let told: u32 = self
            .authority
            .reports
            .iter()
            .map(|event| match &event.what {
                Seen::Tap { count, .. } => *count,
                _ => 0,
            })
            .sum();
        let place = self.place();
        let taps = place.taps.all;
        // An NTAG21x counts our own first read, and whether one that was cut was counted nobody knows.
        let may_lack = match place.tag {
            Some(TagModel::Ntag424(_)) => 0,
            _ => place.torn + place.taps.untold,
        };
        drop(place);
        assert!(
            told <= taps && told + may_lack >= taps,
            "{told} of {taps} taps were told, {may_lack} may lack"
        );
    }

    /// A tag is never more worn than was counted, wherever a visit was cut or a run was killed.
    pub(super) fn assert_counted(&mut self) {
        let worn = self.worn() - self.worn_before;
        let last = self.terminal().state.last_tag().unwrap();
        let counted = last.unwrap().cycles;
        assert!(counted >= worn, "{worn} cycles, {counted} counted");
    }

    /// Cycles of the page that was programmed most, or of an NTAG 424 DNA as a whole.
    pub(super) fn worn(&self) -> u32 {
        match self.place().tag.as_ref().unwrap() {
            TagModel::Ntag213(tag) => {
                let pages = FIRST_PAGE..LAST_PAGE;
                pages.map(|page| tag.writes(page)).max().unwrap()
            }
            TagModel::Ntag424(tag) => tag.writes(),
            TagModel::Foreign(_) => 0,
        }
    }

    fn is_in_touch(&self) -> bool {
        self.net.has_stream
            && self.net.silent_until.is_none()
            && !self.net.holds
            && self.net.held.is_empty()
    }

    fn takes(&self, face: &Face) -> bool {
        self.authority.takes(face, self.now())
    }
}
