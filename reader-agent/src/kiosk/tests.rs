#![allow(clippy::unwrap_used)]
//! The page in Chromium, in every state: `tests/web/kiosk.mjs` looks at it.
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::*;
use crate::look::colour::Colour;
use crate::look::logo::tests::picture;
use crate::look::{Colours, NAME_MAX};
use crate::testing::boards;
use crate::testing::stand::Stand;

impl Stand {
    /// Plays a scene to its end.
    fn play(&self, scene: &str, language: Language, shots: &str) {
        let mut player = Player::start();
        let all = boards::ALL.iter();
        let names = all.map(|(name, made)| [(*name).into(), made().terminal.to_string()]);
        let names: Vec<[String; 2]> = names.collect();
        player.say(&json!({
            "scene": scene, "url": self.url, "lang": language.tag(), "boards": names, "shots": shots,
        }));
        loop {
            let said = player.hear();
            match (&said["show"], &said["renew"], &said["stop"]) {
                (Value::String(name), ..) => {
                    self.board.send_replace(boards::board(name));
                }
                (_, Value::Bool(true), _) => self.board.send_modify(boards::renew),
                (.., Value::Bool(true)) => {
                    self.stop.send_replace(true);
                }
                _ => return player.end(),
            }
            player.say(&json!({}));
        }
    }
}

struct Player {
    child: Child,
    from: BufReader<ChildStdout>,
}

impl Player {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/web");
        assert!(
            folder.join("node_modules/playwright-core").exists(),
            "what npm brings is not there: cd tests/web && npm ci"
        );
        let mut node = Command::new("node");
        node.arg(folder.join("kiosk.mjs"));
        node.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Self { child, from }
    }

    fn say(&mut self, what: &Value) {
        let to = self.child.stdin.as_mut().unwrap();
        writeln!(to, "{what}").unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("the scene goes on; what is wrong stands above")
    }

    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

fn themed() -> Theme {
    Theme {
        name: Some("Corner & Sons “Bakery”".into()),
        logo: Some(picture()),
        // The other way round than the plain look, so that all that follows from it is looked at.
        colours: Colours {
            paper: Colour::new(0x1b1e2b),
            ink: Colour::new(0xf2efe6),
            quiet: Colour::new(0xb9bcc8),
            accent: Colour::new(0xf0b429),
        },
    }
}

/// Where pictures go, if somebody wants to look at them.
fn shots(name: &str) -> String {
    std::env::var("M2KEY_SHOTS").map_or_else(|_| String::new(), |dir| format!("{dir}/{name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_readable_at_two_metres_and_fits_every_screen_in_english() {
    let name = "Boulangerie du Vieux Port Nantes";
    assert_eq!(name.chars().count(), NAME_MAX);
    let theme = Theme {
        name: Some(name.into()),
        ..Theme::default()
    };
    let look = Look {
        theme,
        ..Look::default()
    };
    let stand = Stand::open(look).await;
    stand.play("gallery", Language::English, &shots("en"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_readable_at_two_metres_and_fits_every_screen_in_french_with_a_theme() {
    let look = Look {
        language: Language::French,
        theme: themed(),
        trouble: None,
    };
    let stand = Stand::open(look).await;
    stand.play("gallery", Language::French, &shots("fr"));
}

#[tokio::test(flavor = "multi_thread")]
async fn amount_and_state_are_announced_once_and_a_new_code_is_not() {
    let stand = Stand::open(Look::default()).await;
    stand.play("announced", Language::English, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_moves_and_nothing_slides_for_who_wants_no_motion() {
    let stand = Stand::open(Look::default()).await;
    stand.play("moves", Language::English, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_agent_is_gone_shows_no_code_any_more() {
    let stand = Stand::open(Look::default()).await;
    stand.play("alone", Language::English, "");
}

#[tokio::test]
async fn everything_of_the_page_wants_its_cookie_and_carries_the_strict_policy() {
    let look = Look {
        theme: themed(),
        ..Look::default()
    };
    let stand = Stand::open(look).await;
    let tls = crate::authority::tls::none().unwrap();
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let opened = http.get(&stand.url).send().await.unwrap();
    let cookie = opened.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    for (path, media) in [
        ("/kiosk", "text/html; charset=utf-8"),
        ("/kiosk/theme.css", "text/css; charset=utf-8"),
        ("/kiosk/kiosk.css", "text/css; charset=utf-8"),
        ("/kiosk/kiosk.js", "text/javascript; charset=utf-8"),
        ("/kiosk/kiosk.svg", "image/svg+xml"),
        ("/kiosk/logo.png", "image/png"),
    ] {
        let url = format!("http://{}{path}", stand.address);
        let refused = http.get(&url).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
        let served = http.get(&url).header("cookie", &cookie).send().await;
        let served = served.unwrap();
        assert_eq!(served.status(), StatusCode::OK, "{path}");
        assert_eq!(served.headers()["content-type"], media);
        let policy = served.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        let text = served.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&text);
        if path == "/kiosk" {
            // Markup is said, not obeyed; nothing inline that the policy would have to allow.
            assert!(text.contains("Corner &#38; Sons"), "{text}");
            assert!(!text.contains("style=") && !text.contains("<script>"));
        }
    }
}
