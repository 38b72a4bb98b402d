#![allow(clippy::unwrap_used)]
//! Real HTTP on a free loopback port, with a desk that plays the authority.
use super::*;
use crate::authority::tls;
use crate::driver::empty_board;
use crate::http::{hardened, own_host, refusals};
use crate::kiosk::{self, Kiosk};
use crate::scene::Scene;
use crate::shown::{Asked, Paid, Shown};
use crate::testing::{
    Signer, charge_id, claim_id, clock_by_hand, mark, money, receipt_claims, refund_claims,
    terminal, till_charge,
};
use crate::words::{Language, Words};
use async_trait::async_trait;
use protocol::refund::RefundClaims;
use protocol::time::Timestamp;
use protocol::wire::history::{DayReport, HistoryPage, HistoryQuery};
use protocol::wire::push::EndReason;
use protocol::wire::refunds::{RefundRequest, RefundResponse, RefundStage};
use reqwest::{Method, StatusCode};
use std::net::SocketAddr;
use std::sync::Mutex;

struct Desk(Mutex<Result<ChargeState, CallError>>);

/// Answers refunds with a receipt that says what `bend` makes of it.
struct Ledger {
    bend: Mutex<fn(&mut RefundClaims)>,
    signer: Mutex<Signer>,
}

#[async_trait]
impl BooksDesk for Ledger {
    async fn refund(&self, request: &RefundRequest) -> Result<RefundResponse, CallError> {
        let mut claims = refund_claims(terminal(1), request);
        let (payment, receipt_id) = (claims.payment, claims.receipt);
        (self.bend.lock().unwrap())(&mut claims);
        Ok(RefundResponse {
            refund: request.refund,
            charge: request.charge,
            payment,
            amount: request.amount,
            stage: RefundStage::Refunded {
                receipt_id,
                receipt: self.signer.lock().unwrap().sign(&claims),
            },
        })
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, CallError> {
        Ok(HistoryPage {
            entries: Vec::new(),
            next: query.cursor.clone(),
        })
    }

    async fn day(&self) -> Result<DayReport, CallError> {
        Err(CallError::Refused(Box::new(Problem::new(
            ProblemType::TerminalRefused,
        ))))
    }
}

#[async_trait]
impl ChargeDesk for Desk {
    async fn start(&self, request: &ChargeRequest) -> Result<ChargeState, CallError> {
        let mut state = self.0.lock().unwrap().clone()?;
        state.charge = request.charge;
        Ok(state)
    }
    async fn look(&self, _: ChargeId) -> Result<ChargeState, CallError> {
        self.0.lock().unwrap().clone()
    }
    async fn cancel(&self, _: ChargeId) -> Result<ChargeState, CallError> {
        let state = self.0.lock().unwrap().clone()?;
        let reason = EndReason::Cancelled;
        Ok(ChargeState {
            stage: ChargeStage::Ended { reason },
            ..state
        })
    }
}

struct Terminal {
    address: SocketAddr,
    till: String,
    kiosk: String,
    board: watch::Sender<Board>,
    desk: Arc<Desk>,
    ledger: Arc<Ledger>,
    state: Arc<State>,
    key_missing: Arc<Notify>,
    http: reqwest::Client,
    _dir: tempfile::TempDir,
}

const BODY: &str = r#"{"charge":"01890000-0000-7000-8000-000000000001","amount":{"amount_minor":420,"currency":"EUR"}}"#;

fn offered() -> ChargeStage {
    ChargeStage::Offered {
        until: Timestamp::from_ms(60_000),
    }
}

impl Terminal {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret = |name| Arc::new(Secret::load_or_make(&dir.path().join(name)).unwrap());
        let (till, kiosk) = (secret("till"), secret("kiosk"));
        let (board, receiver) = watch::channel(empty_board(terminal(1)));
        let desk = Arc::new(Desk(Mutex::new(Ok(till_charge(offered())))));
        let ledger = Arc::new(Ledger {
            bend: Mutex::new(|_| {}),
            signer: Mutex::new(Signer::new(1)),
        });
        let state = Arc::new(State::open(&dir.path().join("agent.db")).unwrap());
        let key_missing = Arc::new(Notify::new());
        let clock = clock_by_hand(Arc::default());
        clock.heard(Timestamp::from_ms(5_000));
        state
            .save(&crate::core::Save::Keys {
                keys: Signer::new(1).keys(),
                tag: String::new(),
            })
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let till_part = Till {
            desk: desk.clone(),
            books: ledger.clone(),
            board: receiver.clone(),
            secret: till.clone(),
            state: state.clone(),
            clock: Arc::new(clock),
            key_missing: key_missing.clone(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        };
        let kiosk_part = Kiosk {
            board: receiver,
            secret: kiosk.clone(),
            look: Arc::default(),
        };
        let routes = own_host(address)
            .and(routes(till_part).or(kiosk::routes(kiosk_part)).unify())
            .recover(refusals)
            .unify()
            .map(hardened)
            .boxed();
        tokio::spawn(accept(listener, routes));
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls::none().unwrap())
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            address,
            till: till.expose().to_owned(),
            kiosk: kiosk.expose().to_owned(),
            board,
            desk,
            ledger,
            state,
            key_missing,
            http,
            _dir: dir,
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.address))
    }

    fn till(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path)
            .bearer_auth(&self.till)
            .header("content-type", "application/json")
            .header("content-type", "application/json")
    }

    /// The driver's part: what the screens show, and what the till is told of it.
    fn show(&self, shown: Shown) {
        self.board.send_modify(|board| {
            let charge = |state| TillCharge {
                state,
                stale: false,
                as_of: Timestamp::from_ms(1_000),
            };
            board.charge = shown.charge_state().map(charge);
            board.online = true;
            board.shown = shown;
        });
    }

    /// The authority goes away: the screens say so, and the till is told what was said last.
    fn lose(&self) {
        *self.desk.0.lock().unwrap() = Err(CallError::Unreachable {
            detail: "refused".into(),
        });
        self.board.send_modify(|board| {
            board.online = false;
            board.shown = Shown::Offline { standing: None };
            if let Some(charge) = &mut board.charge {
                charge.stale = true;
            }
        });
    }

    async fn asks_for_keys(&self) {
        let asked = self.key_missing.notified();
        let asked = tokio::time::timeout(std::time::Duration::from_secs(60), asked);
        asked.await.expect("it asks for the key");
    }

    /// The stream of charge 1, for whoever heard this event last.
    async fn follow(&self, last: Option<&str>) -> reqwest::Response {
        let path = format!("/v1/charges/{}/events", charge_id(1));
        let mut get = self.till(Method::GET, &path);
        if let Some(last) = last {
            get = get.header("last-event-id", last);
        }
        get.send().await.unwrap()
    }
}

async fn accept(listener: tokio::net::TcpListener, routes: BoxedFilter<(Response,)>) {
    let service = hyper_util::service::TowerToHyperService::new(warp::service(routes));
    while let Ok((stream, _)) = listener.accept().await {
        let io = hyper_util::rt::TokioIo::new(stream);
        let service = service.clone();
        tokio::spawn(async move {
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(io, service).await;
        });
    }
}

async fn problem(request: reqwest::RequestBuilder) -> (u16, Problem) {
    let response = request.send().await.unwrap();
    let media = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(media, protocol::problem::PROBLEM_JSON);
    (response.status().as_u16(), response.json().await.unwrap())
}

fn paid(receipt: String) -> ChargeStage {
    ChargeStage::Paid {
        claim: claim_id(1),
        mark: mark(7),
        receipt,
    }
}

#[tokio::test]
async fn the_till_starts_a_charge_and_gets_its_state() {
    let terminal = Terminal::start().await;
    let sent = terminal.till(Method::POST, "/v1/charges").body(BODY).send();
    let response = sent.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let state: TillCharge = response.json().await.unwrap();
    assert_eq!(state.state.stage, offered());
    assert_eq!(
        state.as_of,
        Timestamp::from_ms(5_000),
        "by the authority's clock"
    );
    let cancelled = terminal.till(Method::DELETE, &format!("/v1/charges/{}", charge_id(1)));
    let cancelled: TillCharge = cancelled.send().await.unwrap().json().await.unwrap();
    let reason = EndReason::Cancelled;
    assert_eq!(cancelled.state.stage, ChargeStage::Ended { reason });
}

#[tokio::test]
async fn without_its_secret_nobody_is_the_till() {
    let terminal = Terminal::start().await;
    for request in [
        terminal.request(Method::POST, "/v1/charges").body(BODY),
        terminal
            .request(Method::POST, "/v1/charges")
            .body(BODY)
            .bearer_auth("guess"),
        terminal.request(Method::GET, &format!("/v1/charges/{}", charge_id(1))),
    ] {
        let (status, problem) = problem(request).await;
        assert_eq!(status, 401);
        assert!(problem.next_step.contains("till.secret"));
    }
}

#[tokio::test]
async fn another_host_or_origin_is_refused_before_anything_else() {
    let terminal = Terminal::start().await;
    for (name, value) in [
        ("host", "pay.example"),
        ("host", "127.0.0.1:1"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "https://127.0.0.1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let request = terminal
            .till(Method::POST, "/v1/charges")
            .header(name, value);
        assert_eq!(problem(request.body(BODY)).await.0, 403, "{name}: {value}");
        let request = terminal.request(Method::GET, "/kiosk").header(name, value);
        assert_eq!(problem(request).await.0, 403, "{name}: {value}");
    }
}

#[tokio::test]
async fn bad_bodies_and_ids_are_problems_with_a_next_step() {
    let terminal = Terminal::start().await;
    let post = || terminal.till(Method::POST, "/v1/charges");
    let plain_text = || {
        let post = terminal.request(Method::POST, "/v1/charges");
        let post = post.bearer_auth(&terminal.till);
        post.header("content-type", "text/plain").body(BODY)
    };
    let long_reference = BODY.replace("}}", &format!("}},\"reference\":\"{}\"}}", "x".repeat(65)));
    for (request, wanted) in [
        (post().body("{"), 400),
        (post().body(BODY.replace("420", "-1")), 400),
        (post().body(BODY.replace("\"charge\"", "\"chargee\"")), 400),
        (post().body(long_reference), 400),
        (post().body("x".repeat(crate::body::BODY_MAX + 1)), 413),
        (post().body("x".repeat(1_048_576)), 413),
        (post().body(&BODY[..BODY.len() - 1]), 400),
        (post().body(BODY.replace("420", "0")), 400),
        (post().body(BODY.replace("420", "4.2")), 400),
        (
            post().body(BODY.replace("420", "9".repeat(30).as_str())),
            400,
        ),
        (post().body(BODY.replace("EUR", "QQQ")), 400),
        (
            post().body(BODY.replace("}}", "},\"reference\":\"a\\u001b[2J\"}")),
            400,
        ),
        (plain_text(), 400),
        (terminal.till(Method::GET, "/v1/charges/nonsense"), 400),
        (terminal.till(Method::DELETE, "/v1/charges/%00"), 400),
        (terminal.till(Method::GET, "/v1/nowhere"), 404),
        (terminal.till(Method::PUT, "/v1/charges"), 405),
    ] {
        let (status, problem) = problem(request).await;
        assert_eq!(status, wanted, "{problem:?}");
        assert!(!problem.next_step.is_empty());
    }
}

#[tokio::test]
async fn an_authority_that_is_away_is_a_503_with_what_to_do() {
    let terminal = Terminal::start().await;
    *terminal.desk.0.lock().unwrap() = Err(CallError::Unreachable {
        detail: "refused".into(),
    });
    let (status, problem) = problem(terminal.till(Method::POST, "/v1/charges").body(BODY)).await;
    assert_eq!(status, 503);
    assert_eq!(problem.retry_after_s, Some(AWAY_RETRY_S));
    assert!(problem.next_step.contains("network"));
}

#[tokio::test]
async fn the_till_is_told_paid_only_with_a_receipt_that_verifies() {
    let terminal_1 = Terminal::start().await;
    let path = format!("/v1/charges/{}", charge_id(1));
    let forged = Signer::new(2).sign(&receipt_claims(terminal(1), 420));
    *terminal_1.desk.0.lock().unwrap() = Ok(till_charge(paid(forged)));
    // By a key that may be on its way here.
    assert_eq!(problem(terminal_1.till(Method::GET, &path)).await.0, 503);
    terminal_1.asks_for_keys().await;
    let foreign = Signer::new(1).sign(&receipt_claims(terminal(2), 420));
    *terminal_1.desk.0.lock().unwrap() = Ok(till_charge(paid(foreign)));
    assert_eq!(problem(terminal_1.till(Method::GET, &path)).await.0, 500);
    let good = Signer::new(1).sign(&receipt_claims(terminal(1), 420));
    *terminal_1.desk.0.lock().unwrap() = Ok(till_charge(paid(good.clone())));
    let response = terminal_1.till(Method::GET, &path).send().await.unwrap();
    let state: TillCharge = response.json().await.unwrap();
    assert_eq!(state.state.stage, paid(good));
}

#[tokio::test]
async fn the_event_stream_tells_every_state_of_its_charge_once() {
    let terminal = Terminal::start().await;
    let asked = Asked::of(&till_charge(offered()));
    let until = Timestamp::from_ms(60_000);
    terminal.show(Shown::Offered {
        asked: asked.clone(),
        until,
    });
    let path = format!("/v1/charges/{}/events", charge_id(1));
    let mut response = terminal.till(Method::GET, &path).send().await.unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("\"offered\""));
    terminal.show(Shown::Held {
        asked,
        claim: claim_id(1),
        mark: mark(7),
        until,
    });
    let second = response.chunk().await.unwrap().unwrap();
    let second = String::from_utf8_lossy(&second);
    assert!(second.contains("\"held\"") && !second.contains("\"offered\""));
}

#[tokio::test]
async fn the_kiosk_opens_with_its_key_once_and_then_with_its_cookie() {
    let terminal = Terminal::start().await;
    let get = |path: &str| terminal.request(Method::GET, path);
    assert_eq!(problem(get("/kiosk")).await.0, 403);
    assert_eq!(problem(get("/kiosk?key=guess")).await.0, 403);
    assert_eq!(problem(get("/kiosk/events")).await.0, 403);
    let opened = get(&format!("/kiosk?key={}", terminal.kiosk))
        .send()
        .await
        .unwrap();
    assert_eq!(opened.status(), StatusCode::SEE_OTHER);
    assert_eq!(opened.headers()["location"], "/kiosk");
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    assert!(!cookie.contains(&terminal.kiosk));
    let pair = cookie.split(';').next().unwrap().to_owned();
    for path in ["/kiosk", "/kiosk/kiosk.css", "/kiosk/kiosk.js"] {
        let page = get(path).header("cookie", &pair).send().await.unwrap();
        assert_eq!(page.status(), StatusCode::OK, "{path}");
        let csp = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(csp.contains("default-src 'none'") && !csp.contains("unsafe"));
    }
}

#[tokio::test]
async fn the_screen_says_paid_with_amount_and_mark_of_the_receipt() {
    let terminal_1 = Terminal::start().await;
    let signed = Signer::new(1).sign(&receipt_claims(terminal(1), 420));
    let said = Said {
        charge: charge_id(1),
        claim: claim_id(1),
        mark: mark(7),
        amount: Some(money(420)),
        receipt: &signed,
    };
    let receipt = receipts::check(said, terminal(1), &Signer::new(1).keys()).unwrap();
    terminal_1.show(Shown::Paid(Box::new(Paid {
        asked: Asked::of(&till_charge(offered())),
        claim: claim_id(1),
        mark: mark(7),
        receipt,
        signed: signed.clone(),
    })));
    let view = kiosk::View::of(
        Scene::of(&terminal_1.board.borrow(), Language::English),
        Words(Language::English),
    );
    assert_eq!((view.screen, view.title), ("paid", "Paid"));
    assert_eq!(view.amount.as_deref(), Some("4.20"));
    assert_eq!(view.mark.as_deref(), Some("07"));
    assert!(view.qr.is_none());
}

const REFUND: &str = r#"{"refund":"01890000-0000-7000-8000-000000000009","charge":"01890000-0000-7000-8000-000000000001","amount":{"amount_minor":120,"currency":"EUR"},"pin":"480317"}"#;

#[tokio::test]
async fn the_till_is_told_refunded_only_with_a_receipt_for_exactly_that() {
    let terminal = Terminal::start().await;
    let ask = || {
        let request = terminal.till(Method::POST, "/v1/refunds");
        request.body(REFUND)
    };
    let good = ask().send().await.unwrap();
    assert_eq!(good.status(), StatusCode::OK);
    let bends: [fn(&mut RefundClaims); 4] = [
        |claims| claims.refund = protocol::ids::RefundId(claims.payment.0),
        |claims| claims.charge = charge_id(2),
        |claims| claims.amount = money(121),
        |claims| claims.terminal = Some(crate::testing::terminal(2)),
    ];
    for bend in bends {
        *terminal.ledger.bend.lock().unwrap() = bend;
        let (status, problem) = problem(ask()).await;
        assert_eq!(status, 500, "{problem:?}");
    }
    let nobody = terminal.request(Method::POST, "/v1/refunds").body(REFUND);
    assert_eq!(problem(nobody).await.0, 401);
}

#[tokio::test]
async fn a_refund_by_a_key_that_is_on_its_way_here_is_asked_for_again_and_told() {
    let terminal = Terminal::start().await;
    *terminal.ledger.signer.lock().unwrap() = Signer::new(2);
    let ask = || terminal.till(Method::POST, "/v1/refunds").body(REFUND);
    let (status, problem) = problem(ask()).await;
    assert_eq!(
        (status, problem.retry_after_s),
        (503, Some(AWAY_RETRY_S)),
        "{problem:?}"
    );
    terminal.asks_for_keys().await;
    let keys = crate::core::Save::Keys {
        keys: Signer::new(2).keys(),
        tag: String::new(),
    };
    terminal.state.save(&keys).unwrap();
    let told = ask().send().await.unwrap();
    assert_eq!(told.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_pin_is_not_repeated_to_whoever_mistypes_it() {
    let terminal = Terminal::start().await;
    let request = terminal.till(Method::POST, "/v1/refunds");
    let bad = REFUND.replace("480317", "4803x7");
    let request = request.body(bad);
    let (status, problem) = problem(request).await;
    assert_eq!(status, 400);
    assert!(!format!("{problem:?}").contains("4803"), "{problem:?}");
}

#[tokio::test]
async fn history_and_day_are_the_authoritys_answers() {
    let terminal = Terminal::start().await;
    let page = terminal
        .till(Method::GET, "/v1/history?cursor=12.ab")
        .send()
        .await
        .unwrap();
    let page: HistoryPage = page.json().await.unwrap();
    assert_eq!(page.next.as_deref(), Some("12.ab"));
    let sneaky = terminal.till(Method::GET, "/v1/history?cursor=1%26limit%3D9");
    assert_eq!(problem(sneaky).await.0, 400);
    let day = terminal.till(Method::GET, "/v1/day");
    assert_eq!(problem(day).await.0, 403);
}

/// The next event of a stream: its id, and the charge.
async fn event(stream: &mut reqwest::Response) -> (String, TillCharge) {
    let text = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    let field = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let charge = serde_json::from_str(field("data:")).unwrap();
    (field("id:").to_owned(), charge)
}

fn offered_shown() -> Shown {
    Shown::unpaid(&till_charge(offered())).unwrap()
}

fn paid_shown() -> Shown {
    let signed = Signer::new(1).sign(&receipt_claims(terminal(1), 420));
    let said = Said {
        charge: charge_id(1),
        claim: claim_id(1),
        mark: mark(7),
        amount: Some(money(420)),
        receipt: &signed,
    };
    let receipt = receipts::check(said, terminal(1), &Signer::new(1).keys()).unwrap();
    Shown::Paid(Box::new(Paid {
        asked: Asked::of(&till_charge(offered())),
        claim: claim_id(1),
        mark: mark(7),
        receipt,
        signed,
    }))
}

#[tokio::test]
async fn while_the_authority_is_away_the_till_is_told_what_it_said_last_and_that_it_is_old() {
    let terminal = Terminal::start().await;
    terminal.show(offered_shown());
    let mut stream = terminal.follow(None).await;
    let (first, told) = event(&mut stream).await;
    assert_eq!((told.state.stage, told.stale), (offered(), false));
    terminal.lose();
    let (second, told) = event(&mut stream).await;
    assert_eq!((told.state.stage, told.stale), (offered(), true));
    assert_ne!(first, second);
    let path = format!("/v1/charges/{}", charge_id(1));
    let look = terminal.till(Method::GET, &path).send().await.unwrap();
    let told: TillCharge = look.json().await.unwrap();
    assert_eq!((told.state.stage, told.stale), (offered(), true));
    assert_eq!(told.as_of, Timestamp::from_ms(1_000));
    // Of what it does not know it says nothing.
    let other = format!("/v1/charges/{}", charge_id(2));
    for request in [
        terminal.till(Method::GET, &other),
        terminal.till(Method::GET, &format!("{other}/events")),
        terminal.till(Method::DELETE, &path),
    ] {
        let (status, problem) = problem(request).await;
        assert_eq!((status, problem.retry_after_s), (503, Some(AWAY_RETRY_S)));
    }
    terminal.show(paid_shown());
    let (_, told) = event(&mut stream).await;
    assert!(matches!(told.state.stage, ChargeStage::Paid { .. }) && !told.stale);
}

#[tokio::test]
async fn a_stream_ends_with_its_charge_and_who_has_heard_that_hears_nothing_more() {
    let terminal = Terminal::start().await;
    terminal.show(paid_shown());
    let mut stream = terminal.follow(None).await;
    let (last, _) = event(&mut stream).await;
    assert!(stream.chunk().await.unwrap().is_none());
    let again = terminal.follow(Some(&last)).await;
    assert_eq!(again.status(), StatusCode::NO_CONTENT);
    let mut missed = terminal.follow(Some("of-another-state")).await;
    assert_eq!(event(&mut missed).await.0, last);
}

#[tokio::test]
async fn who_comes_back_hears_only_what_it_has_not_heard() {
    let terminal = Terminal::start().await;
    terminal.show(offered_shown());
    let mut stream = terminal.follow(None).await;
    let (first, _) = event(&mut stream).await;
    let mut again = terminal.follow(Some(&first)).await;
    terminal.show(paid_shown());
    let (_, told) = event(&mut again).await;
    assert!(matches!(told.state.stage, ChargeStage::Paid { .. }));
}

#[tokio::test]
async fn a_charge_that_left_the_screen_unseen_is_followed_to_its_end() {
    let terminal = Terminal::start().await;
    terminal.show(offered_shown());
    let mut stream = terminal.follow(None).await;
    event(&mut stream).await;
    // Paid and off the screen between two looks.
    let receipt = Signer::new(1).sign(&receipt_claims(crate::testing::terminal(1), 420));
    *terminal.desk.0.lock().unwrap() = Ok(till_charge(paid(receipt.clone())));
    terminal.show(Shown::Idle { standing: None });
    let (_, told) = event(&mut stream).await;
    assert_eq!(told.state.stage, paid(receipt));
    assert!(stream.chunk().await.unwrap().is_none());
}

#[tokio::test]
async fn only_so_many_charges_are_followed_at_a_time() {
    let terminal = Terminal::start().await;
    terminal.show(offered_shown());
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        streams.push(terminal.follow(None).await);
    }
    let path = format!("/v1/charges/{}/events", charge_id(1));
    let (status, problem) = problem(terminal.till(Method::GET, &path)).await;
    assert_eq!((status, problem.retry_after_s), (503, Some(AWAY_RETRY_S)));
    // Whoever goes away makes room.
    streams.clear();
    let look = async { while terminal.follow(None).await.status() != StatusCode::OK {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), look)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_document_is_for_everybody_on_this_machine_and_for_no_page() {
    let terminal = Terminal::start().await;
    let get = || terminal.request(Method::GET, openapi::OPENAPI_PATH);
    let document: serde_json::Value = get().send().await.unwrap().json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let page = get().header("origin", "http://evil.example");
    assert_eq!(problem(page).await.0, 403);
}
