//! Do the pages for shoppers hold: look without spending, one payment however often somebody presses, and
//! nothing for strangers?

use protocol::money::{Currency, Money};
use protocol::token::Channel;

use crate::browser::{Browser, ORIGIN, location};
use crate::openid::OpenId;
use crate::relying::{back, begin, sign_in};
use crate::world::{Answer, MINUTE, SPENDING, World, answer, eur};

/// A browser that navigates: it asks for pages.
const HTML: &[(&str, &str)] = &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];

pub struct Place {
    pub world: World,
    pub bank: OpenId,
}

impl Place {
    pub async fn new() -> Self {
        let bank = OpenId::start("bank").await;
        let world = World::where_browsers_sign_in(&[(&bank, None)]).await;
        Self { world, bank }
    }

    /// The path that a tap or a scan opens.
    pub async fn link(&self, channel: Channel) -> String {
        let link = self.world.shown(channel).await;
        link.strip_prefix("https://pay.example").unwrap().to_owned()
    }

    /// A press on the terminal's page; the path of the claim.
    pub async fn claim(&self, browser: &Browser, link: &str) -> String {
        let token = link.strip_prefix("/t/").unwrap();
        let answer = browser
            .post(&self.world, "/claim", &[("token", token)])
            .await;
        location(&answer)
    }

    /// Claims what the till asks for, and signs in for it.
    pub async fn to_the_button(&self, browser: &Browser, minor: i64) -> String {
        self.world.charge(minor).await;
        let link = self.link(Channel::Qr).await;
        let path = self.claim(browser, &link).await;
        let claim = path.strip_prefix("/pay/").unwrap();
        let request = begin(&self.world, &self.bank, browser, &[("claim", claim)]).await;
        let claims = self.bank.claims(&request, "ann", self.world.now().secs());
        let code = self.bank.code(claims);
        let answer = back(&self.world, &self.bank, browser, &request, &code).await;
        assert_eq!(location(&answer), path);
        path
    }

    pub async fn approve(&self, browser: &Browser, path: &str, minor: &str) -> Answer {
        let payee = self.world.merchant.to_string();
        let fields = [
            ("payee", payee.as_str()),
            ("currency", "EUR"),
            ("amount_minor", minor),
        ];
        browser.post(&self.world, path, &fields).await
    }

    /// Money for whoever signs in as ann at the bank of this test.
    pub async fn fund(&self, minor: i64) {
        self.world.give_at(&self.bank.issuer, "ann", minor).await;
    }
}

pub fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

#[track_caller]
pub fn says(answer: &Answer, words: &str) {
    let text = text(answer);
    assert!(text.contains(words), "no {words:?} in {text}");
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let value = answer.headers.get(name);
    value.map_or("", |it| it.to_str().unwrap())
}

#[tokio::test]
async fn a_look_names_payee_and_amount_and_spends_nothing_however_often() {
    let place = Place::new().await;
    place.world.charge(420).await;
    let link = place.link(Channel::Nfc).await;
    for _ in 0..3 {
        let answer = Browser::new().get(&place.world, &link).await;
        assert_eq!(answer.status, 200);
        says(&answer, "Pay Corner Café");
        says(&answer, "4.20 <span class=\"currency\">EUR</span>");
        says(&answer, "by the door");
        says(&answer, "sale 1");
    }
    assert_eq!(
        place.link(Channel::Nfc).await,
        link,
        "its turn has not moved"
    );
    let browser = Browser::new();
    let path = place.claim(&browser, &link).await;
    says(&browser.get(&place.world, &path).await, "Sign in to pay");
}

#[tokio::test]
async fn a_look_at_a_terminal_without_a_till_names_the_amount_or_the_cap_and_that_it_is_offline() {
    let fixed = World::with(|merchant| protocol_merchant(merchant, Some(eur(250)), None)).await;
    let link = fixed.shown(Channel::Qr).await;
    let answer = Browser::new().get(&fixed, path_of(&link)).await;
    says(&answer, "2.50 <span");
    says(&answer, "This terminal has no connection just now");
    let open = World::with(|merchant| protocol_merchant(merchant, None, Some(eur(2_000)))).await;
    let link = open.shown(Channel::Qr).await;
    let answer = Browser::new().get(&open, path_of(&link)).await;
    says(&answer, "At most 20.00\u{a0}EUR");
    let neither = World::new().await;
    let link = neither.shown(Channel::Qr).await;
    let answer = Browser::new().get(&neither, path_of(&link)).await;
    assert_eq!(answer.status, 409);
    says(&answer, "There is nothing to pay here yet");
}

fn protocol_merchant(
    merchant: authority::store::Merchant,
    fixed: Option<Money>,
    open_cap: Option<Money>,
) -> authority::store::Merchant {
    authority::store::Merchant {
        fixed,
        open_cap,
        ..merchant
    }
}

fn path_of(link: &str) -> &str {
    link.strip_prefix("https://pay.example").unwrap()
}

#[tokio::test]
async fn every_refusal_of_a_look_is_a_page_with_its_status_and_the_next_step() {
    let place = Place::new().await;
    let world = &place.world;
    world.charge(420).await;
    let stranger = Browser::new();
    let link = place.link(Channel::Qr).await;
    let unknown = format!("/t/{}.{}", world.terminal, "0".repeat(26));
    let of = |status: u16, words: &'static str| (status, words);
    for (path, (status, words)) in [
        (
            "/t/nonsense".to_owned(),
            of(400, "That is not a code of a terminal"),
        ),
        (
            "/t/12345678.00000000000000000000000000".to_owned(),
            of(400, "not a code"),
        ),
        (unknown, of(403, "No terminal shows this code now")),
    ] {
        let answer = stranger.get(world, &path).await;
        assert_eq!(answer.status, status, "{path}");
        says(&answer, words);
    }
    let holder = Browser::new();
    place.claim(&holder, &link).await;
    let spent = stranger.get(world, &link).await;
    assert_eq!(spent.status, 409);
    says(&spent, "This code was used already");
    assert!(spent.retry_after.is_some());
    let held = stranger.get(world, &place.link(Channel::Qr).await).await;
    assert_eq!(held.status, 409);
    says(&held, "Another phone is paying this");
    world.advance(10 * MINUTE);
    let passed = stranger.get(world, &link).await;
    assert_eq!(passed.status, 410);
    says(&passed, "This code has run out");
}

#[tokio::test]
async fn a_press_that_comes_twice_is_one_claim_and_one_payment_with_one_receipt() {
    let place = Place::new().await;
    place.fund(5_000).await;
    place.world.charge(420).await;
    let (browser, link) = (Browser::new(), place.link(Channel::Qr).await);
    let first = place.claim(&browser, &link).await;
    // The answer to the first press may have been lost, cookie and all.
    let again = place.claim(&Browser::with(&browser.secret()), &link).await;
    assert_eq!(again, first);
    let looked = browser.get(&place.world, &link).await;
    assert_eq!(location(&looked), first, "back leads forward again");
    let stranger = Browser::new();
    let refused = stranger
        .post(&place.world, "/claim", &[("token", &link[3..])])
        .await;
    assert_eq!(refused.status, 409);

    let claim = first.strip_prefix("/pay/").unwrap();
    let request = begin(&place.world, &place.bank, &browser, &[("claim", claim)]).await;
    let code = place
        .bank
        .code(place.bank.claims(&request, "ann", place.world.now().secs()));
    back(&place.world, &place.bank, &browser, &request, &code).await;
    let (one, two) = tokio::join!(
        place.approve(&browser, &first, "420"),
        place.approve(&browser, &first, "420")
    );
    assert_eq!(
        (location(&one), location(&two)),
        (first.clone(), first.clone())
    );
    let looked = browser.get(&place.world, &link).await;
    assert_eq!(
        location(&looked),
        first,
        "also with the secret of the sign-in"
    );
    let receipt = browser.get(&place.world, &first).await;
    says(&receipt, "<h1><svg");
    says(&receipt, "Paid</h1>");
    let file = format!("{first}/receipt.jws");
    let saved = browser.get(&place.world, &file).await;
    assert_eq!(header(&saved, "content-type"), "application/jose");
    assert!(header(&saved, "content-disposition").starts_with("attachment"));
    assert_eq!(browser.get(&place.world, &file).await.body, saved.body);
    let balance = place.world.balance_at(&place.bank.issuer, "ann").await;
    assert_eq!(balance, 5_000 - 420);
    assert_eq!(stranger.get(&place.world, &file).await.status, 404);
    assert_eq!(stranger.get(&place.world, &first).await.status, 404);

    let jws = String::from_utf8(saved.body).unwrap();
    let good = stranger
        .post(&place.world, "/verify", &[("receipt", &jws)])
        .await;
    says(&good, "data-verify-good>");
    says(&good, "Corner Café");
    let forged = jws.replace('.', "A.");
    let bad = stranger
        .post(&place.world, "/verify", &[("receipt", &forged)])
        .await;
    says(&bad, "This is not a genuine receipt");
    says(&bad, "data-verify-good hidden>");
}

#[tokio::test]
async fn what_the_form_says_must_be_what_the_terminal_asks_and_money_must_be_there() {
    let place = Place::new().await;
    place.fund(300).await;
    let browser = Browser::new();
    let path = place.to_the_button(&browser, 420).await;
    let page = browser.get(&place.world, &path).await;
    says(&page, "Pay 4.20\u{a0}EUR</button>");
    says(&page, "name=\"amount_minor\" value=\"420\"");
    let changed = place.approve(&browser, &path, "42").await;
    assert_eq!(changed.status, 409);
    says(&changed, "That is not the amount the terminal asks for");
    let short = place.approve(&browser, &path, "420").await;
    assert_eq!(short.status, 402);
    says(&short, "The account does not hold enough");
    says(&short, "Pay 4.20\u{a0}EUR</button>");
    let absurd = place.approve(&browser, &path, "-1").await;
    assert_eq!(absurd.status, 400);
    place.world.advance(10 * MINUTE);
    let late = place.approve(&browser, &path, "420").await;
    assert_eq!(late.status, 410);
}

#[tokio::test]
async fn an_open_amount_is_typed_within_its_cap() {
    let bank = OpenId::start("bank").await;
    let world = World::where_they_sign_in_at(&[(&bank, None)], |merchant| {
        protocol_merchant(merchant, None, Some(eur(2_000)))
    })
    .await;
    let place = Place { world, bank };
    place.fund(5_000).await;
    let browser = Browser::new();
    sign_in(&place.world, &place.bank, &browser, "ann").await;
    let link = place.link(Channel::Qr).await;
    let path = place.claim(&browser, &link).await;
    let page = browser.get(&place.world, &path).await;
    says(&page, "How much do you pay?");
    let payee = place.world.merchant.to_string();
    let pay = async |amount: &str| {
        let fields = [
            ("payee", payee.as_str()),
            ("currency", "EUR"),
            ("amount", amount),
        ];
        browser.post(&place.world, &path, &fields).await
    };
    for (amount, status) in [("", 400), ("1,234", 400), ("20.01", 409)] {
        let refused = pay(amount).await;
        assert_eq!(refused.status, status, "{amount}");
        says(&refused, "How much do you pay?");
    }
    assert_eq!(location(&pay("3,5").await), path);
    says(&browser.get(&place.world, &path).await, "3.50 <span");
}

#[tokio::test]
async fn a_typed_code_asks_for_the_sign_in_first_and_never_stands_in_an_address() {
    let place = Place::new().await;
    place.world.charge(420).await;
    let browser = Browser::new();
    let code = place.world.shown(Channel::Code).await;
    let asked = browser
        .post(&place.world, "/claim", &[("token", &code)])
        .await;
    assert_eq!(asked.status, 401);
    says(&asked, "Sign in, then type the code");
    assert!(!text(&asked).contains(&code));
    let slip = browser
        .post(&place.world, "/claim", &[("token", "12345")])
        .await;
    assert_eq!(slip.status, 400);
    says(&slip, "15 digits");
    sign_in(&place.world, &place.bank, &browser, "ann").await;
    let typed = code.replace('-', " ");
    let claimed = browser
        .post(&place.world, "/claim", &[("token", &typed)])
        .await;
    assert!(location(&claimed).starts_with("/pay/"));
}

#[tokio::test]
async fn a_form_of_another_page_does_nothing_and_is_answered_with_a_page() {
    let place = Place::new().await;
    place.world.charge(420).await;
    let link = place.link(Channel::Qr).await;
    let (browser, token) = (Browser::new(), &link[3..]);
    let own = browser.form_token();
    let other = Browser::new().form_token();
    let fields = |form: &str| {
        vec![
            ("token".to_owned(), token.to_owned()),
            ("form_token".into(), form.to_owned()),
        ]
    };
    for (origin, form) in [
        (None, own.as_str()),
        (Some("null"), &own),
        (Some("https://evil.example"), &own),
        (Some(ORIGIN), &other),
        (Some(ORIGIN), ""),
    ] {
        let fields = fields(form);
        let fields: Vec<_> = fields
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        for path in [
            "/claim",
            "/language",
            "/verify",
            "/me/delete",
            "/me/default",
        ] {
            let refused = browser.post_from(&place.world, path, origin, &fields).await;
            assert_eq!(refused.status, 403, "{path} {origin:?} {form}");
        }
    }
    let path = place.claim(&browser, &link).await;
    assert!(path.starts_with("/pay/"), "nothing was spent by them");
}

#[tokio::test]
async fn people_are_refused_with_pages_and_programs_with_problems() {
    let place = Place::new().await;
    let browser = Browser::new();
    for path in ["/nothing", "/v1/claims/0", "/sign-in/callback?state=x"] {
        let program = browser.get(&place.world, path).await;
        assert_eq!(
            header(&program, "content-type"),
            "application/problem+json",
            "{path}"
        );
        let person = browser.get_with(&place.world, path, HTML).await;
        assert_eq!(person.status, program.status, "{path}");
        assert!(
            header(&person, "content-type").starts_with("text/html"),
            "{path}"
        );
        says(&person, "<h1>");
    }
}

#[tokio::test]
async fn a_form_reaches_the_provider_by_a_page_of_ours() {
    let place = Place::new().await;
    let browser = Browser::new();
    let fields = [("purpose", "profile")];
    let answer = browser
        .navigate(&place.world, "/sign-in/bank", &fields)
        .await;
    assert_eq!(answer.status, 200);
    says(
        &answer,
        "http-equiv=\"refresh\" content=\"0;url=http://127.0.0.1:",
    );
    assert!(header(&answer, "content-security-policy").contains("form-action 'self';"));
}

#[tokio::test]
async fn every_page_says_what_a_browser_may_do_with_it() {
    let place = Place::new().await;
    place.world.charge(420).await;
    let browser = Browser::new();
    let link = place.link(Channel::Qr).await;
    for path in ["/", &link, "/verify", "/me", "/t/nonsense"] {
        let answer = browser.get(&place.world, path).await;
        let policy = header(&answer, "content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src https://pay.example/assets/",
            "script-src https://pay.example/assets/",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header(&answer, "referrer-policy"), "strict-origin");
        assert_eq!(header(&answer, "cache-control"), "no-store");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer, "cross-origin-opener-policy"), "same-origin");
        assert_eq!(
            header(&answer, "cross-origin-resource-policy"),
            "same-origin"
        );
        assert!(header(&answer, "strict-transport-security").contains("max-age"));
        let camera = if path == "/" {
            "camera=(self)"
        } else {
            "camera=()"
        };
        assert!(
            header(&answer, "permissions-policy").contains(camera),
            "{path}"
        );
        let page = text(&answer);
        for inline in [
            "<script>", "style=\"", " onclick", "<style", "http://", "https://",
        ] {
            assert!(!page.contains(inline), "{path}: {inline}");
        }
    }
}

#[tokio::test]
async fn files_are_kept_for_ever_under_the_hash_of_their_bytes() {
    let world = World::new().await;
    let page = text(&Browser::new().get(&world, "/").await);
    for (extension, media) in [
        ("css", "text/css"),
        ("js", "text/javascript"),
        ("svg", "image/svg"),
    ] {
        let end = page.find(&format!(".{extension}\"")).unwrap();
        let start = page[..end].rfind("/assets/").unwrap();
        let path = &page[start..end + 1 + extension.len()];
        let file = world.get(path).await;
        assert_eq!(file.status, 200, "{path}");
        assert!(header(&file, "content-type").starts_with(media));
        assert!(header(&file, "cache-control").contains("immutable"));
    }
    assert_eq!(world.get("/assets/other.css").await.status, 404);
}

#[tokio::test]
async fn a_merchant_called_script_is_a_name_and_no_script() {
    let name = "<script>alert(1)</script>\"'&";
    let world = World::with(|merchant| authority::store::Merchant {
        name: name.into(),
        ..merchant
    })
    .await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    let page = text(&Browser::new().get(&world, path_of(&link)).await);
    assert!(!page.contains("<script>"), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)"), "{page}");
}

#[tokio::test]
async fn pages_speak_the_language_of_the_browser_or_the_one_that_was_chosen() {
    let world = World::new().await;
    world.charge(123_456).await;
    let link = world.shown(Channel::Qr).await;
    let path = path_of(&link);
    let browser = Browser::new();
    let french = [("accept-language", "fr-CH, en;q=0.5")];
    let answer = browser.get_with(&world, path, &french).await;
    says(&answer, "<html lang=\"fr\" dir=\"ltr\">");
    says(&answer, "1\u{202f}234,56 <span");
    assert_eq!(header(&answer, "content-language"), "fr");
    let chosen = browser
        .post(&world, "/language", &[("language", "fr"), ("back", path)])
        .await;
    assert_eq!(location(&chosen), path);
    says(&browser.get(&world, path).await, "Payer Corner Café");
    let elsewhere = [("language", "en"), ("back", "//evil.example/")];
    let chosen = browser.post(&world, "/language", &elsewhere).await;
    assert_eq!(location(&chosen), "/");
    says(&browser.get(&world, path).await, "Pay Corner Café");
    let unknown = browser
        .post(&world, "/language", &[("language", "tlh")])
        .await;
    assert_eq!(unknown.status, 400);
}

#[tokio::test]
async fn amounts_have_the_decimals_of_their_currency() {
    for (currency, minor, shown) in [("JPY", 1_200, "1,200 <span"), ("KWD", 1_250, "1.250 <span")] {
        let currency: Currency = currency.parse().unwrap();
        let price = Money::new(minor, currency).unwrap();
        let world = World::with(|merchant| authority::store::Merchant {
            currency,
            fixed: Some(price),
            ..merchant
        })
        .await;
        let link = world.shown(Channel::Qr).await;
        says(&Browser::new().get(&world, path_of(&link)).await, shown);
    }
}

#[tokio::test]
async fn a_refused_post_of_another_website_takes_no_browsers_secret_away() {
    let place = Place::new().await;
    let world = &place.world;
    // SameSite=Lax: a form of another website comes without the cookie that there is.
    for path in ["/me/delete", "/claim", "/sign-out", "/nothing"] {
        let post = world.http.post(world.url(path)).body("form_token=x");
        let post = post.header("content-type", "application/x-www-form-urlencoded");
        let post = post.header("origin", "https://evil.example");
        let refused = answer(post.header("accept", "text/html")).await;
        assert!(matches!(refused.status, 403..=405), "{path} {refused:?}");
        says(&refused, "<h1>");
        assert!(!refused.headers.contains_key("set-cookie"), "{path}");
    }
    let looked = answer(world.http.get(world.url("/me"))).await;
    assert!(header(&looked, "set-cookie").starts_with("__Host-m2key-session="));
}

#[tokio::test]
async fn whoever_asks_too_much_reads_so_on_a_page() {
    let few = SPENDING.replace("looks_per_address = 1000000", "looks_per_address = 2");
    let (world, browser) = (World::spending(&few).await, Browser::new());
    for _ in 0..2 {
        browser.get(&world, "/me").await;
    }
    let person = browser.get_with(&world, "/me", HTML).await;
    assert_eq!(person.status, 429);
    assert!(person.retry_after.is_some());
    says(&person, "Too many requests from here");
    let program = browser.get(&world, "/me").await;
    program.refused(429, "too-many-requests");
}
