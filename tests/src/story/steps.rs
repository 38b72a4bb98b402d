//! The steps themselves, in the order of the journey: what happens, and what was seen?

use protocol::charge::ChargeKind;
use protocol::jwk::JwkSet;
use protocol::jws;
use protocol::presented::Presented;
use protocol::receipt::ReceiptClaims;
use protocol::time::Timestamp;
use protocol::token::Channel;

use super::attacks::{self, Captured};
use super::{Places, Teller};
use crate::authority::Pace;
use crate::browser::Browser;
use crate::failure::ensure;
use crate::phone::{self, Approved, Claim, Phone};
use crate::process::{Said, command};
use crate::terminal::Terminal;
use crate::wait;
use crate::world::{SHOPPERS, Site};
use crate::{Failure, World, web};

/// 4.20 EUR.
const PRICE_MINOR: i64 = 420;
/// What the three channels are tried with.
const TRIAL_MINOR: i64 = 100;

pub(super) async fn tell(places: &Places, teller: &mut Teller) -> Result<World, Failure> {
    let site = teller
        .step(
            "The HSM token is made",
            "`m2key-authority init` makes two PKCS#11 HSM tokens, one for the authority and one for the signer, keys\nthat cannot leave them, a root and an issuing CA, store and configurations. `check-hsm` then attacks the\ntoken a little.",
            make_site(places),
        )
        .await?;
    let site = teller
        .step(
            "The authority serves",
            "`m2key-pki signer` holds the issuing CA in a process of its own. `m2key-authority serve`: one listener\nfor phones, one for terminals and operators (mutual TLS), one for health. It says when it is ready.",
            serve(site),
        )
        .await?;
    let world = teller
        .step(
            "Merchant, accounts and terminal are enrolled",
            "The operator adds a merchant and a terminal, whose seed is made in the HSM. The terminal checks the\nroot's fingerprint, makes its own key, and gets its certificate for a one-time join token.\nThe demo bank's two customers get accounts with 50.00 EUR.",
            enrol(site),
        )
        .await?;
    journey(places, teller, &world).await?;
    Ok(world)
}

async fn journey(places: &Places, teller: &mut Teller, world: &World) -> Result<(), Failure> {
    places.keep_identities(world)?;
    teller
        .step(
            "Tag, QR code and typed code agree with the authority",
            "For each channel the till asks for 1.00 EUR, a phone takes the token off the terminal and the\nauthority says which channel it belongs to. Then the till cancels.",
            channels_agree(world),
        )
        .await?;
    let captured = teller
        .step(
            "A window passes, and all three change",
            "Somebody photographs screen and tag. Window lengths are random (here 5 to 16 seconds), drawn from\nthe epoch key: the next change cannot be told from outside.",
            windows_pass(world),
        )
        .await?;
    let claim = teller
        .step(
            "The till asks for 4.20 EUR, the shopper taps",
            "The phone reads the tag and claims: the token is spent, and the claim holds the charge for this\nphone. Phone and screen show the same two digits.",
            tap_and_claim(world),
        )
        .await?;
    let approved = teller
        .step(
            "The shopper signs in and approves",
            "The phone signs in at the demo bank and sends amount and payee as the shopper saw them. The ledger\npays, and only then the receipt is signed in the HSM and shown.",
            approve(world, &claim),
        )
        .await?;
    teller
        .step(
            "The receipt verifies with the published keys alone",
            "`m2key-authority receipt verify` with nothing but the receipt and /.well-known/jwks.json.",
            verify_receipt(places, world, &approved),
        )
        .await?;
    attacks::tell(teller, world, captured, &claim).await?;
    teller
        .step(
            "The till shows paid",
            "The terminal verified the receipt for its own charge before it told the till.",
            till_shows_paid(world, &claim, &approved),
        )
        .await?;
    teller
        .step(
            "Another shopper pays on the page",
            "The till asks again. The second shopper has no app: the browser opens the link of the QR code,\nsigns in at the bank (OpenID Connect), and approves on the page. Opening the link spent nothing.",
            pay_on_the_page(world),
        )
        .await?;
    teller
        .step(
            "The audit chain verifies",
            "`m2key-authority audit verify` walks every row and every signed checkpoint.",
            verify_audit(world),
        )
        .await?;
    teller
        .step(
            "What others can check is in place",
            "Certificates, signed schedule and receipt, keys and the tag's memory, for tools that are not ours.",
            keep_evidence(places, world),
        )
        .await
}

/// A claim of the story, with the token that was spent for it and the phone that holds it.
pub(super) struct Held {
    pub(super) token: String,
    /// It was taken off the tag then.
    pub(super) tapped_at: Timestamp,
    pub(super) claim: Claim,
}

async fn make_site(places: &Places) -> Result<(Site, String), Failure> {
    let site = Site::prepare(&places.house(), Pace::Quick).await?;
    site.authority.configure(&site.bank.sign_in_section()?)?;
    let checked = site.authority.verb(&["check-hsm"])?;
    let keys = checked["keys"].as_array().map_or(0, Vec::len);
    let extractable = |key: &&serde_json::Value| key["extractable"] != false;
    let leaks = checked["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(extractable)
        .count();
    ensure(
        keys > 0 && leaks == 0,
        format!("{leaks} of {keys} keys can leave the HSM"),
    )?;
    let seen = format!(
        "{keys} keys, none of which can leave the HSM; root fingerprint {}",
        site.authority.root_fingerprint()
    );
    Ok((site, seen))
}

async fn serve(mut site: Site) -> Result<(Site, String), Failure> {
    site.authority.serve().await?;
    let seen = format!(
        "ready: phones at {}, terminals at {}, health at {}",
        site.authority.public_url()?,
        site.authority.agents_url()?,
        site.authority.loopback_url()?
    );
    Ok((site, seen))
}

async fn enrol(site: Site) -> Result<(World, String), Failure> {
    let mut world = site.settle()?;
    world.add_terminal().await?;
    let terminal = world.terminal();
    let link = Phone::of(SHOPPERS[0], &world.authority, &world.bank)?
        .tap(terminal)
        .await?;
    let seen = format!(
        "terminal {} shows tokens; its tag carries {link}; its screen is {}",
        terminal.id(),
        terminal.kiosk().address()?
    );
    Ok((world, seen))
}

async fn channels_agree(world: &World) -> Result<((), String), Failure> {
    let phone = world.signed_in_phone(SHOPPERS[0]).await?;
    let mut seen = Vec::new();
    for channel in Channel::ALL {
        let charge = world
            .terminal()
            .till()?
            .must_start(TRIAL_MINOR, "trial")
            .await?;
        world.terminal().kiosk().shows("offered").await?;
        let token = take(&phone, world.terminal(), channel).await?;
        let presented = Presented::parse(&token).map_err(Failure::new)?;
        ensure(
            presented.terminal() == world.terminal().id(),
            "a token of another terminal",
        )?;
        let claim = phone.must_claim(&token).await?;
        ensure(
            claim.view.channel == channel,
            format!("taken for {}", claim.view.channel),
        )?;
        world.terminal().till()?.cancel(charge.charge).await?;
        seen.push(format!("{channel} {token}"));
    }
    Ok(((), format!("accepted once each: {}", seen.join(" · "))))
}

/// Takes the token of one channel off the terminal, as that channel is used.
async fn take(phone: &Phone, terminal: &Terminal, channel: Channel) -> Result<String, Failure> {
    match channel {
        Channel::Nfc => phone.tap(terminal).await,
        Channel::Qr => phone.scan(terminal).await,
        Channel::Code => phone.read_code(terminal).await,
    }
}

async fn windows_pass(world: &World) -> Result<(Captured, String), Failure> {
    let terminal = world.terminal();
    let phone = world.phone(SHOPPERS[1])?;
    let (captured, faces) = Captured::by_camera(terminal).await?;
    let tag = phone.tap(terminal).await?;
    let changed = async || {
        let now = terminal.kiosk().frame().await.ok()?.faces()?;
        (now.link != faces.link && now.code != faces.code).then_some(now)
    };
    let now = wait::until("QR code and typed code to change", changed).await?;
    let tag_now = phone.tap_other_than(terminal, &tag).await?;
    let seen = format!(
        "QR {} became {}, code {} became {}, tag {} became {}",
        tail(&faces.link),
        tail(&now.link),
        faces.code,
        now.code,
        tail(&tag),
        tail(&tag_now)
    );
    Ok((captured, seen))
}

async fn tap_and_claim(world: &World) -> Result<(Held, String), Failure> {
    let terminal = world.terminal();
    terminal
        .till()?
        .must_start(PRICE_MINOR, "sale 1041")
        .await?;
    terminal.kiosk().shows("offered").await?;
    let phone = world.phone(SHOPPERS[0])?;
    let token = phone.tap(terminal).await?;
    let tapped_at = phone::now();
    let claim = phone.must_claim(&token).await?;
    let view = &claim.view;
    ensure(
        view.kind == ChargeKind::Till && view.channel == Channel::Nfc,
        "not a tapped charge",
    )?;
    let amount = view
        .amount
        .map(|amount| amount.to_string())
        .unwrap_or_default();
    ensure(amount == "4.20 EUR", format!("the phone shows {amount}"))?;
    let screen = terminal.kiosk().shows("held").await?;
    let mark = view.mark.to_string();
    ensure(
        screen.mark.as_deref() == Some(&mark),
        "screen and phone show different marks",
    )?;
    let seen = format!(
        "the phone shows {amount} to {}, mark {mark}; so does the screen",
        view.payee.name
    );
    let held = Held {
        token,
        tapped_at,
        claim,
    };
    Ok((held, seen))
}

async fn approve(world: &World, held: &Held) -> Result<(Approved, String), Failure> {
    let phone = world.signed_in_phone(SHOPPERS[0]).await?;
    let approved = phone.must_approve(&held.claim).await?;
    let again = phone.must_approve(&held.claim).await?;
    ensure(
        again.bytes == approved.bytes,
        "a retry gave another receipt",
    )?;
    let seen = format!(
        "payment {}; the approval sent again gave the same receipt, byte for byte",
        approved.response.payment
    );
    Ok((approved, seen))
}

async fn verify_receipt(
    places: &Places,
    world: &World,
    approved: &Approved,
) -> Result<((), String), Failure> {
    let jwks = world.authority.jwks().await?;
    let receipt = &approved.response.receipt;
    places.keep("jwks.json", &jwks)?;
    places.keep("receipt.jws", receipt.as_bytes())?;
    let keys: JwkSet = web::parse(&jwks)?;
    let verified = jws::verify::<ReceiptClaims>(receipt, &keys).map_err(Failure::new)?;
    let claims = verified.claims();
    ensure(
        claims.amount.amount_minor() == PRICE_MINOR,
        "the receipt is over another amount",
    )?;
    ensure(
        claims.terminal == world.terminal().id(),
        "the receipt is of another terminal",
    )?;
    let mut verify = command("m2key-authority")?;
    verify
        .args(["receipt", "verify"])
        .arg(places.file("receipt.jws"));
    let said = Said::by(verify.arg("--jwks").arg(places.file("jwks.json")))?.ok()?;
    Ok(((), said.out.trim().to_owned()))
}

async fn till_shows_paid(
    world: &World,
    held: &Held,
    approved: &Approved,
) -> Result<((), String), Failure> {
    let keys: JwkSet = web::parse(&world.authority.jwks().await?)?;
    let receipt = &approved.response.receipt;
    let charge = jws::verify::<ReceiptClaims>(receipt, &keys)
        .map_err(Failure::new)?
        .claims()
        .charge;
    let at_till = world.terminal().till()?.paid(charge).await?;
    ensure(
        at_till == *receipt,
        "the till holds another receipt than the phone",
    )?;
    let seen = format!(
        "paid, mark {}, with the same receipt as the phone",
        held.claim.view.mark
    );
    Ok(((), seen))
}

/// As a person would without JavaScript: every button is one of a page that was shown.
async fn pay_on_the_page(world: &World) -> Result<((), String), Failure> {
    let (terminal, bank) = (world.terminal(), &world.bank);
    let till = terminal.till()?;
    till.must_start(PRICE_MINOR, "sale 1042").await?;
    terminal.kiosk().shows("offered").await?;
    let shopper = bank.shopper(SHOPPERS[1])?;
    let mut browser = Browser::trusting(&[&world.authority.root(), bank.ca()])?;
    let link = terminal.kiosk().faces().await?.link;
    let look = browser.open(&link).await?;
    ensure(look.words().contains("4.20"), look.words())?;
    let claimed = browser.submit(&look, &look.form("/claim")?, &[]).await?;
    let choice = claimed.form("/sign-in/bank")?;
    let at_bank = browser.submit(&claimed, &choice, &[]).await?;
    let known = [
        ("shopper", shopper.name.as_str()),
        ("password", shopper.password.as_str()),
    ];
    let form = at_bank.form("/connect/authorize")?;
    let back = browser.submit(&at_bank, &form, &known).await?;
    let paid = browser.submit(&back, &back.form("/pay/")?, &[]).await?;
    ensure(paid.words().contains("Paid"), paid.words())?;
    let screen = terminal.kiosk().shows("paid").await?;
    let mark = screen.mark.unwrap_or_default();
    ensure(
        paid.words().contains(&mark),
        "page and screen show different marks",
    )?;
    Ok(((), format!("paid on {}, mark {mark}", paid.url.path())))
}

async fn verify_audit(world: &World) -> Result<((), String), Failure> {
    let mut verify = command("m2key-authority")?;
    verify.arg("--config").arg(world.authority.config());
    let said = Said::by(verify.args(["audit", "verify"]))?.ok()?;
    Ok(((), said.out.trim().to_owned()))
}

async fn keep_evidence(places: &Places, world: &World) -> Result<((), String), Failure> {
    let terminal = world.terminal();
    let issued = terminal.schedule().await?;
    places.keep("schedule.jws", issued.schedule.as_bytes())?;
    // Between two writes, so that the memory is one that a phone could read.
    Phone::of(SHOPPERS[0], &world.authority, &world.bank)?
        .tap(terminal)
        .await?;
    places.keep("tag.bin", &terminal.tag_memory()?)?;
    Ok(((), format!("in {}", places.dir().display())))
}

/// The part of a link that changes.
fn tail(link: &str) -> &str {
    link.rsplit_once('.').map_or(link, |(_, token)| token)
}
