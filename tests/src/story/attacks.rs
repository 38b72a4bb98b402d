//! What does somebody get who tries a token that is not theirs to use?

use protocol::link::{self, LinkHost};
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use protocol::token::MachineToken;
use protocol::window::EpochClock;

use super::Teller;
use super::steps::Held;
use crate::failure::ensure;
use crate::kiosk::Faces;
use crate::phone::{self, Phone};
use crate::terminal::Terminal;
use crate::wait::Later;
use crate::world::SHOPPERS;
use crate::{Failure, World};

/// The grace of the quick policy, and a second for clocks.
const GRACE_MS: u64 = 7_000;
const PRICE_MINOR: i64 = 420;

/// A link that somebody photographed, and when its window and grace are over.
pub(super) struct Captured {
    link: String,
    passed: Later,
    /// It is not older than this.
    since: Timestamp,
}

impl Captured {
    /// With everything that the camera saw.
    pub(super) async fn by_camera(terminal: &Terminal) -> Result<(Self, Faces), Failure> {
        let since = phone::now();
        let faces = terminal.kiosk().faces().await?;
        let captured = Self {
            link: faces.link.clone(),
            passed: Later::after_ms(faces.qr_left_ms + GRACE_MS),
            since,
        };
        Ok((captured, faces))
    }

    /// Waits until it has passed. The authority tells so while it has the key of that hour in hand: until a minute
    /// after it. Later it knows no such token. So when the terminal's hour has ended meanwhile, another photograph is
    /// taken, in the hour that has begun.
    async fn once_passed(mut self, terminal: &Terminal) -> Result<String, Failure> {
        let clock = EpochClock::of(terminal.id());
        loop {
            self.passed.arrived().await?;
            if clock.epoch_at(self.since) == clock.epoch_at(phone::now()) {
                return Ok(self.link);
            }
            (self, _) = Self::by_camera(terminal).await?;
        }
    }
}

/// Four tries of another shopper while the till asks for the next payment.
pub(super) async fn tell(
    teller: &mut Teller,
    world: &World,
    captured: Captured,
    held: &Held,
) -> Result<(), Failure> {
    let phone = world.signed_in_phone(SHOPPERS[1]).await?;
    let phone = &phone;
    let charge = world
        .terminal()
        .till()?
        .must_start(PRICE_MINOR, "sale 1042")
        .await?;
    teller
        .step(
            "The captured token is refused",
            "Another shopper, signed in, sends the token that was just spent, while the till asks for the next\npayment. (If its window and grace are over by then, it is refused as passed.)",
            refused(phone, &held.token, || after(held.tapped_at)),
        )
        .await?;
    teller
        .step(
            "A token of a passed window is refused",
            "The link photographed before the change, once window and grace are over. (If the terminal's hour ended in\nbetween, one photographed since: of hours before, the authority has no key in hand.)",
            async {
                let link = captured.once_passed(world.terminal()).await?;
                refused(phone, &link, || &[ProblemType::TokenPassed]).await
            },
        )
        .await?;
    teller
        .step(
            "A forged token is refused",
            "The link on the screen with one bit of its token changed.",
            async {
                let forged = forge(&phone.scan(world.terminal()).await?)?;
                refused(phone, &forged, || &[ProblemType::TokenUnknown]).await
            },
        )
        .await?;
    teller
        .step(
            "Another terminal's token is refused",
            "The token on the screen, sent as if a second terminal of the merchant had shown it.",
            async {
                let moved = move_to_other_terminal(world, &phone.scan(world.terminal()).await?)?;
                refused(phone, &moved, || &[ProblemType::TokenUnknown]).await
            },
        )
        .await?;
    world.terminal().till()?.cancel(charge.charge).await
}

/// What a spent token is refused as that was tapped then.
fn after(tapped_at: Timestamp) -> &'static [ProblemType] {
    let age_ms = phone::now() - tapped_at;
    // It cannot have passed before its grace, and was shown a moment before it was tapped.
    match age_ms < GRACE_MS as i64 / 2 {
        true => &[ProblemType::TokenSpent],
        false => &[ProblemType::TokenSpent, ProblemType::TokenPassed],
    }
}

async fn refused(
    phone: &Phone,
    token: &str,
    expected: impl FnOnce() -> &'static [ProblemType],
) -> Result<((), String), Failure> {
    let problem = match phone.claim(token).await? {
        Ok(_) => return Err(Failure::new(format!("{token} was accepted"))),
        Err(problem) => problem,
    };
    let type_ = &problem.type_;
    // As of the answer: the request may have taken its time.
    let expected = expected();
    let fits = problem
        .problem_type()
        .is_some_and(|it| expected.contains(&it));
    let slugs: Vec<_> = expected.iter().map(|it| it.slug()).collect();
    ensure(
        fits,
        format!("refused as {type_}, not as {}", slugs.join(" or ")),
    )?;
    Ok((
        (),
        format!(
            "{} {type_}: {}. {}",
            problem.status, problem.title, problem.next_step
        ),
    ))
}

fn forge(link: &str) -> Result<String, Failure> {
    let (terminal, token) = link::parse(link).map_err(Failure::new)?;
    let mut bytes = *token.as_bytes();
    bytes[0] ^= 1;
    Ok(host_of(link)?.link(terminal, &MachineToken::from_bytes(bytes)))
}

fn move_to_other_terminal(world: &World, link: &str) -> Result<String, Failure> {
    let file = world.dir().join("second-join-token");
    let other = world.authority.add_terminal(world.merchant, &file)?;
    let (_, token) = link::parse(link).map_err(Failure::new)?;
    Ok(host_of(link)?.link(other, &token))
}

fn host_of(link: &str) -> Result<LinkHost, Failure> {
    let host = link.split('/').nth(2).unwrap_or_default();
    LinkHost::parse(host).map_err(Failure::new)
}
