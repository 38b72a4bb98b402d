//! What is done about a member that is away, or lacks a key, and about keys that come and go?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Inner, Standing, Witness};
use crate::{Health, HealthState, HsmError, KeyKind, KeyLabel, KeyReport, clock};

/// Asked of a member that is to show that it is there.
const SIGN_OF_LIFE_LEN: usize = 8;

impl Inner {
    /// Learns which keys there are, and who shares them. Who does not answer is looked at later.
    pub(super) async fn open(&self) -> Result<(), HsmError> {
        let mut trouble = None;
        let mut answered = false;
        for member in 0..self.members.len() {
            match self.hsm(member).inventory().await {
                Ok(reports) => {
                    answered = true;
                    self.learn_all(&reports, member);
                }
                Err(error) => {
                    tracing::error!(token = self.name(member), %error, "an HSM token is away");
                    self.watch(member).handle_away(error.to_string());
                    trouble.get_or_insert(error);
                }
            }
        }
        match trouble {
            Some(error) if !answered => return Err(error),
            _ => {}
        }
        for member in 0..self.members.len() {
            if !self.watch(member).is_away() {
                self.look(member).await;
            }
        }
        Ok(())
    }

    /// Passes over whoever went down, and looks in the background at whom there is reason to look at.
    pub(super) fn look_after(self: &Arc<Self>) {
        let now = clock::now();
        for member in 0..self.members.len() {
            let health = self.hsm(member).health();
            let mut watch = self.watch(member);
            if matches!(health.state, HealthState::Down | HealthState::Recovering) {
                watch.handle_away(health.reason.unwrap_or_default());
            }
            if watch.poll(now, self.keys.is_amiss(member)) {
                let inner = self.clone();
                tokio::spawn(async move { inner.look(member).await });
            }
        }
    }

    /// Is it there, and are its keys those of the others?
    pub(super) async fn look(&self, member: usize) {
        let looked = self.compare(member).await;
        let was_away = self.watch(member).is_away();
        let trouble = looked.err().map(|error| error.to_string());
        if was_away && trouble.is_none() {
            tracing::info!(token = self.name(member), "an HSM token is in use again");
        }
        for (label, standing) in self.keys.amiss(member) {
            let token = self.name(member);
            tracing::warn!(token, label = label.0, ?standing, "not used for this key");
        }
        self.watch(member).handle_looked(clock::now(), trouble);
    }

    /// One member makes it. Its answer stands, whatever it is: a second key under the same label on another
    /// member would be worse than none.
    pub(super) async fn generate_key(
        &self,
        kind: KeyKind,
        label: &KeyLabel,
    ) -> Result<(), HsmError> {
        let fit = |member: &usize| !self.is_out(*member);
        let member = (0..self.members.len()).find(fit).unwrap_or(0);
        for other in (0..self.members.len()).filter(|it| *it != member) {
            if fit(&other) && self.is_taken(other, label).await? {
                return Err(HsmError::LabelTaken {
                    label: label.0.clone(),
                });
            }
        }
        self.hsm(member).generate_key(kind, label).await?;
        self.keys.learn(label, kind, member);
        for other in (0..self.members.len()).filter(|it| *it != member) {
            // It may be another door to the same HSM.
            if fit(&other) {
                self.keys.note(label, other, Standing::Lacks);
                self.look(other).await;
            }
        }
        Ok(())
    }

    /// Destroyed only once no member has it: until then whoever asked must ask again.
    pub(super) async fn destroy_key(&self, label: &KeyLabel) -> Result<(), HsmError> {
        let mut witnesses = self.witnesses.lock().await;
        witnesses.retain(|of, witness| of != label && !witness.leans_on(label));
        let mut destroyed = false;
        let mut trouble = None;
        for member in 0..self.members.len() {
            match self.hsm(member).destroy_key(label).await {
                Ok(()) => destroyed = true,
                Err(HsmError::KeyUnknown { .. }) => {}
                Err(error) => {
                    tracing::error!(
                        token = self.name(member), label = label.0, %error, "a key is not destroyed here"
                    );
                    trouble.get_or_insert(error);
                }
            }
        }
        match trouble {
            Some(error) => return Err(error),
            None => self.keys.forget(label),
        }
        if destroyed {
            return Ok(());
        }
        Err(HsmError::KeyUnknown {
            label: label.0.clone(),
        })
    }

    /// Every key of every member that answers, with who lacks it.
    pub(super) async fn inventory(&self) -> Result<Vec<KeyReport>, HsmError> {
        let mut all: BTreeMap<(KeyLabel, usize), KeyReport> = BTreeMap::new();
        let mut trouble = None;
        let mut answered = Vec::new();
        for member in 0..self.members.len() {
            match self.hsm(member).inventory().await {
                Ok(reports) => {
                    self.learn_all(&reports, member);
                    answered.push(member);
                    self.merge(&mut all, reports, member);
                }
                Err(error) => {
                    trouble.get_or_insert(error);
                }
            }
        }
        match trouble {
            Some(error) if answered.is_empty() => return Err(error),
            _ => {}
        }
        for member in &answered {
            self.look(*member).await;
        }
        let mut reports: Vec<_> = all.into_values().collect();
        for report in &mut reports {
            self.say_who_lacks(report);
        }
        Ok(reports)
    }

    /// Fit if anybody is; worth a look if not everybody is.
    pub(super) fn health(&self) -> Health {
        let mut whole = Health {
            state: HealthState::Ready,
            queued: 0,
            queue_max: 0,
            reason: None,
            remarks: Vec::new(),
            members: Vec::new(),
        };
        for member in 0..self.members.len() {
            let health = self.member_health(member);
            if health.state.is_fit() {
                whole.queued += health.queued;
                whole.queue_max += health.queue_max;
            }
            whole.remarks.extend(self.remarks(member));
            whole.members.push((self.name(member).to_owned(), health));
        }
        (whole.state, whole.reason) = verdict(&whole.members);
        whole
    }

    /// Its keys beside those that are believed.
    async fn compare(&self, member: usize) -> Result<(), HsmError> {
        let hsm = self.hsm(member);
        hsm.random(SIGN_OF_LIFE_LEN).await?;
        let mut witnesses = self.witnesses.lock().await;
        for (label, kind) in self.keys.known() {
            let told = self.keys.told(&label).map(Witness::Point);
            if told.is_none()
                && !witnesses.contains_key(&label)
                && let Some(witness) = self.believed(&label, kind).await
            {
                witnesses.insert(label.clone(), witness);
            }
            if let Some(witness) = told.as_ref().or(witnesses.get(&label)) {
                let standing = witness.standing(hsm, &label).await?;
                self.note_looked(&label, member, standing);
            }
        }
        drop(witnesses);
        self.meet(member).await
    }

    /// Keys that the caller's books have, and that were made elsewhere: does this member hold them, too?
    async fn meet(&self, member: usize) -> Result<(), HsmError> {
        for label in self.keys.unmet() {
            let Some(point) = self.keys.told(&label) else {
                continue;
            };
            let met = Witness::Point(point);
            let standing = met.standing(self.hsm(member), &label).await?;
            if standing == Standing::Holds && self.keys.learn(&label, KeyKind::Signing, member) {
                self.handle_news_of_others(member);
            }
        }
        Ok(())
    }

    /// Believed is what the others hold, not what it answered itself.
    fn note_looked(&self, label: &KeyLabel, member: usize, standing: Standing) {
        self.keys.note(label, member, standing);
        if standing != Standing::Holds {
            self.hsm(member).disown(label);
        }
    }

    /// A key is known from one member: the others are to show whether they hold it.
    pub(super) fn handle_news_of_others(&self, member: usize) {
        for other in (0..self.members.len()).filter(|it| *it != member) {
            self.watch(other).handle_news();
        }
    }

    /// The caller's books have this key; whoever holds it is found at the next request.
    pub(super) fn believe(&self, label: &KeyLabel, point: &[u8; 65]) {
        for member in &self.members {
            member.hsm.believe(label, point);
        }
        if self.keys.tell(label, point) {
            for member in 0..self.members.len() {
                self.watch(member).handle_news();
            }
        }
    }

    /// What this key answers on a member that holds it; nothing if none of them can say.
    async fn believed(&self, label: &KeyLabel, kind: KeyKind) -> Option<Witness> {
        let partner = match kind {
            KeyKind::Sealing => self.keys.partner(label, KeyKind::Binding),
            KeyKind::Binding => self.keys.partner(label, KeyKind::Sealing),
            KeyKind::Signing | KeyKind::Cmac => None,
        };
        for holder in self.keys.holders(label) {
            if self.is_out(holder) {
                continue;
            }
            match Witness::take(self.hsm(holder), kind, label, partner.clone()).await {
                Ok(witness) => return witness,
                Err(error) => {
                    tracing::warn!(token = self.name(holder), label = label.0, %error, "a key does not answer");
                }
            }
        }
        None
    }

    async fn is_taken(&self, member: usize, label: &KeyLabel) -> Result<bool, HsmError> {
        let reports = self.hsm(member).inventory().await?;
        Ok(reports.iter().any(|report| report.label == *label))
    }

    fn learn_all(&self, reports: &[KeyReport], member: usize) {
        for report in reports {
            if let Some(kind) = report.kind {
                self.keys.learn(&report.label, kind, member);
            }
        }
    }

    fn merge(
        &self,
        all: &mut BTreeMap<(KeyLabel, usize), KeyReport>,
        reports: Vec<KeyReport>,
        member: usize,
    ) {
        let mut doubles = BTreeMap::new();
        for mut report in reports {
            let double = doubles.entry(report.label.clone()).or_insert(0);
            let key = (report.label.clone(), *double);
            *double += 1;
            let of_member = |it: String| format!("on {}: {it}", self.name(member));
            report.findings = report.findings.into_iter().map(of_member).collect();
            match all.get_mut(&key) {
                Some(known) => known.findings.append(&mut report.findings),
                None => {
                    all.insert(key, report);
                }
            }
        }
    }

    /// Of whoever does not answer, what it showed before, if it showed anything.
    fn say_who_lacks(&self, report: &mut KeyReport) {
        for member in 0..self.members.len() {
            let amiss = self.keys.amiss(member);
            let standing = amiss.iter().find(|(label, _)| *label == report.label);
            let name = self.name(member).to_owned();
            match standing {
                Some((_, Standing::Differs)) => report
                    .findings
                    .push(format!("on {name}: another key has this label")),
                Some((_, Standing::Lacks)) => report.lacked_by.push(name),
                Some((_, Standing::Unseen)) => report.unseen_on.push(name),
                Some((_, Standing::Holds)) | None => {}
            }
        }
    }

    fn member_health(&self, member: usize) -> Health {
        let mut health = self.hsm(member).health();
        let watch = self.watch(member);
        if let Some(reason) = watch.reason()
            && health.state.is_fit()
        {
            health.state = HealthState::Recovering;
            health.reason = Some(reason.to_owned());
        }
        health
    }

    fn is_out(&self, member: usize) -> bool {
        !self.member_health(member).state.is_fit()
    }

    /// What an operator should know of its keys.
    fn remarks(&self, member: usize) -> Vec<String> {
        let (mut lacking, mut unseen) = (Vec::new(), Vec::new());
        for (label, standing) in self.keys.amiss(member) {
            match standing {
                Standing::Differs => {
                    lacking.push(format!("{} (another key has this label)", label.0))
                }
                Standing::Unseen => unseen.push(label.0),
                Standing::Lacks | Standing::Holds => lacking.push(label.0),
            }
        }
        let (name, mut remarks) = (self.name(member), Vec::new());
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            remarks.push(format!(
                "{name} does not share {lacking}: copy what it lacks with the HSM's own means"
            ));
        }
        if !unseen.is_empty() {
            let unseen = unseen.join(", ");
            remarks.push(format!(
                "{name} has not shown so far whether it holds {unseen}, and is not used for it"
            ));
        }
        remarks
    }
}

fn verdict(members: &[(String, Health)]) -> (HealthState, Option<String>) {
    let worst = |state| members.iter().any(|(_, health)| health.state == state);
    let fit = members.iter().any(|(_, health)| health.state.is_fit());
    let state = match fit {
        true if members.iter().all(|(_, it)| it.state == HealthState::Ready) => HealthState::Ready,
        true => HealthState::Degraded,
        false if worst(HealthState::Recovering) => HealthState::Recovering,
        false => HealthState::Down,
    };
    let reasons = members.iter().filter_map(|(name, health)| {
        let reason = health.reason.as_ref()?;
        Some(format!("{name}: {reason}"))
    });
    let reasons: Vec<_> = reasons.collect();
    (state, (!reasons.is_empty()).then(|| reasons.join("; ")))
}
