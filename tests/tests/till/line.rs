//! What does the till's interface answer, and is that what its document says?

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use harness::{wait, web};
use protocol::problem::{Problem, ProblemType};
use protocol::wire::charges::TillCharge;
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// A program beside a terminal that asks what it likes, and remembers every answer.
#[derive(Clone)]
pub struct Line {
    pub address: String,
    pub secret: String,
    http: Client,
    heard: Arc<Mutex<Vec<Value>>>,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: String,
}

/// An open stream of one charge.
pub struct Stream {
    response: reqwest::Response,
    text: String,
    path: String,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Line {
    pub fn to(address: &str, secret: &str) -> Self {
        Self {
            address: address.into(),
            secret: secret.trim().into(),
            http: web::plain().unwrap(),
            heard: Arc::default(),
        }
    }

    /// The same till after a restart of its terminal, with what it heard before.
    pub fn again(&self, address: &str, secret: &str) -> Self {
        Self {
            heard: self.heard.clone(),
            ..Self::to(address, secret)
        }
    }

    /// Asks as a till does.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        let headers = [("content-type", "application/json")];
        self.send(method, path, body, &headers).await.unwrap()
    }

    /// Asks with this body and with these headers besides; nothing if nobody answers.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> Option<Answer> {
        let verb = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .http
            .request(verb, format!("http://{}{path}", self.address));
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.bearer_auth(&self.secret);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.ok()?;
        let header = |name| {
            let value = response.headers().get(name);
            value.map(|it: &reqwest::header::HeaderValue| it.to_str().unwrap().to_owned())
        };
        assert!(header("access-control-allow-origin").is_none());
        let (status, media) = (response.status().as_u16(), header("content-type"));
        let retry_after = header("retry-after");
        let body = response.text().await.ok()?;
        self.heard.lock().unwrap().push(json!({
            "method": method, "path": path, "status": status, "media": media, "body": body,
        }));
        Some(Answer {
            status,
            retry_after,
            body,
        })
    }

    /// Opens the stream of a charge, for whoever heard this event last.
    pub async fn follow(&self, charge: &str, last: Option<&str>) -> Stream {
        let path = format!("/v1/charges/{charge}/events");
        let mut get = self.http.get(format!("http://{}{path}", self.address));
        get = get.bearer_auth(&self.secret).timeout(wait::LIMIT * 5);
        if let Some(last) = last {
            get = get.header("last-event-id", last);
        }
        Stream {
            response: get.send().await.unwrap(),
            text: String::new(),
            path,
            heard: self.heard.clone(),
        }
    }

    /// Has the validator look at everything that was heard.
    pub fn judged(&self) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("answers.json");
        let heard = Value::Array(self.heard.lock().unwrap().clone());
        assert!(!heard.as_array().unwrap().is_empty());
        std::fs::write(&file, heard.to_string()).unwrap();
        let output = judge(&document_file(), &file);
        assert!(output.status.success(), "{output:?}");
    }
}

/// What the validator says of these answers, by this document.
pub fn judge(document: &Path, answers: &Path) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/judge_answers.py");
    let mut judge = Command::new(tools().join("python"));
    let output = judge.arg(script).args([document, answers]).output();
    output.expect("this test needs its tools: run scripts/setup.sh test")
}

/// The document as it lies in the sources; that it is the one that is served is a test of its own.
pub fn document_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reader-agent/assets/till-openapi.json")
}

/// Where scripts/setup.sh puts them: beside everything else that is built.
pub fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("api-judges/bin")
}

impl Answer {
    pub fn charge(&self) -> TillCharge {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn problem(&self) -> Problem {
        let problem: Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        assert!(!problem.next_step.is_empty());
        problem
    }

    pub fn is(&self, expected: ProblemType) {
        let problem = self.problem();
        assert_eq!(problem.problem_type(), Some(expected), "{problem:?}");
    }

    /// Not possible now: it says when to ask again, and twice the same.
    pub fn is_away(&self) {
        self.is(ProblemType::NotReady);
        let seconds = self.problem().retry_after_s.unwrap().to_string();
        assert_eq!(self.retry_after, Some(seconds));
    }
}

impl Stream {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The next event: its id, and the charge; none when the stream has ended.
    pub async fn next(&mut self) -> Option<(String, TillCharge)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name| event.lines().find_map(|it: &str| it.strip_prefix(name));
                let found = field("id:").zip(field("data:"));
                let found = found.map(|(id, data)| (id.to_owned(), data.to_owned()));
                self.text = rest.to_owned();
                let Some((id, data)) = found else { continue };
                self.heard.lock().unwrap().push(json!({
                    "method": "GET", "path": self.path, "status": 200,
                    "media": "text/event-stream", "body": data,
                }));
                return Some((id, serde_json::from_str(&data).unwrap()));
            }
            let part = self.response.chunk().await.ok()??;
            self.text.push_str(std::str::from_utf8(&part).unwrap());
        }
    }

    /// The first event that is as wanted.
    pub async fn until(&mut self, wanted: impl Fn(&TillCharge) -> bool) -> TillCharge {
        let looking = async {
            loop {
                let (_, charge) = self.next().await.expect("the stream goes on");
                if wanted(&charge) {
                    return charge;
                }
            }
        };
        tokio::time::timeout(wait::LIMIT, looking).await.unwrap()
    }
}
