//! What does a browser without JavaScript do? It keeps cookies, follows redirects and fills in forms.
//!
//! For the demo and for tests of the way through the pages; what people see is judged in a real browser.

use std::collections::BTreeMap;
use std::path::Path;

use html5gum::{Token, Tokenizer};
use reqwest::header::{LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder, Response, Url};

use crate::{Failure, web};

/// Most redirects that one step follows.
const REDIRECTS_MAX: usize = 10;

/// One browser of one shopper.
pub struct Browser {
    http: Client,
    /// By host: cookies know no ports.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// What it shows.
pub struct Page {
    pub url: Url,
    pub status: u16,
    pub html: String,
}

/// A form on a page, as filled in by the page itself.
#[derive(Debug, Clone)]
pub struct Form {
    pub action: Url,
    pub post: bool,
    pub fields: BTreeMap<String, String>,
}

impl Browser {
    /// One that trusts these roots (PEM files) and no others.
    pub fn trusting(roots: &[&Path]) -> Result<Self, Failure> {
        Ok(Self {
            http: web::trusting_each(roots)?,
            cookies: BTreeMap::new(),
        })
    }

    /// Types an address.
    pub async fn open(&mut self, url: &str) -> Result<Page, Failure> {
        let url = Url::parse(url).map_err(Failure::of(url.to_owned()))?;
        let request = self.http.get(url.clone());
        let response = self.send(request, &url).await?;
        self.arrive(response).await
    }

    /// Presses the button of a form, with these fields filled in otherwise than the page did.
    pub async fn submit(
        &mut self,
        from: &Page,
        form: &Form,
        filled: &[(&str, &str)],
    ) -> Result<Page, Failure> {
        let mut fields = form.fields.clone();
        for (name, value) in filled {
            fields.insert((*name).to_owned(), (*value).to_owned());
        }
        let mut url = form.action.clone();
        let request = if form.post {
            let body = encoded(&fields);
            let post = self.http.post(url.clone()).body(body);
            post.header("content-type", "application/x-www-form-urlencoded")
                .header("origin", from.url.origin().ascii_serialization())
        } else {
            url.set_query(Some(&encoded(&fields)));
            self.http.get(url.clone())
        };
        let response = self.send(request, &url).await?;
        self.arrive(response).await
    }

    async fn send(&mut self, request: RequestBuilder, url: &Url) -> Result<Response, Failure> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let kept = self.cookies.get(&host);
        let pairs: Vec<_> = kept
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = match pairs.is_empty() {
            true => request,
            false => request.header("cookie", pairs.join("; ")),
        };
        let response = request.send().await.map_err(|e| web::sent(&e))?;
        for set in response.headers().get_all(SET_COOKIE) {
            let set = set.to_str().map_err(Failure::of("a cookie"))?;
            self.keep(&host, set);
        }
        Ok(response)
    }

    /// As a `Set-Cookie` of this host says.
    pub fn keep(&mut self, host: &str, set: &str) {
        let ends = set.to_ascii_lowercase().contains("max-age=0");
        let pair = set.split(';').next().unwrap_or_default();
        let Some((name, value)) = pair.split_once('=') else {
            return;
        };
        let cookies = self.cookies.entry(host.to_owned()).or_default();
        match ends {
            true => cookies.remove(name),
            false => cookies.insert(name.to_owned(), value.to_owned()),
        };
    }

    async fn arrive(&mut self, mut response: Response) -> Result<Page, Failure> {
        for _ in 0..REDIRECTS_MAX {
            let url = response.url().clone();
            let to = response
                .headers()
                .get(LOCATION)
                .filter(|_| response.status().is_redirection());
            let Some(to) = to else {
                let status = response.status().as_u16();
                let html = response.text().await.map_err(|e| web::sent(&e))?;
                return Ok(Page { url, status, html });
            };
            let to = to.to_str().map_err(Failure::of("a redirect"))?;
            let next = url.join(to).map_err(Failure::of(to.to_owned()))?;
            response = self.send(self.http.get(next.clone()), &next).await?;
        }
        Err(Failure::new(format!("more than {REDIRECTS_MAX} redirects")))
    }
}

impl Page {
    /// The first form whose action begins with this path.
    pub fn form(&self, path: &str) -> Result<Form, Failure> {
        let found = self
            .forms()
            .into_iter()
            .find(|it| it.action.path().starts_with(path));
        found.ok_or_else(|| {
            let words = self.words();
            Failure::new(format!(
                "{} ({}) has no form to {path}: {words}",
                self.url.path(),
                self.status
            ))
        })
    }

    /// Every form, with what the page filled in: hidden fields, values, what is checked or selected.
    pub fn forms(&self) -> Vec<Form> {
        let mut forms: Vec<Form> = Vec::new();
        let mut inside = false;
        for token in tokens(&self.html) {
            match token {
                Tag::Start(name, attributes) if name == "form" => {
                    inside = true;
                    forms.push(self.begun(&attributes));
                }
                Tag::End(name) if name == "form" => inside = false,
                Tag::Start(name, attributes) if name == "input" && inside => {
                    if let Some(form) = forms.last_mut() {
                        take(form, &attributes);
                    }
                }
                _ => {}
            }
        }
        forms
    }

    /// What a person reads, on one line.
    pub fn words(&self) -> String {
        let mut words = String::new();
        let mut hidden = false;
        for token in tokens(&self.html) {
            match token {
                Tag::Start(name, _) => hidden = hidden || name == "style" || name == "script",
                Tag::End(name) if name == "style" || name == "script" => hidden = false,
                Tag::Text(text) if !hidden => {
                    words += &text;
                    words.push(' ');
                }
                Tag::End(_) | Tag::Text(_) => {}
            }
        }
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn begun(&self, attributes: &BTreeMap<String, String>) -> Form {
        let action = attributes.get("action").map_or("", String::as_str);
        Form {
            action: self.url.join(action).unwrap_or_else(|_| self.url.clone()),
            post: attributes
                .get("method")
                .is_some_and(|it| it.eq_ignore_ascii_case("post")),
            fields: BTreeMap::new(),
        }
    }
}

fn take(form: &mut Form, attributes: &BTreeMap<String, String>) {
    let Some(name) = attributes.get("name") else {
        return;
    };
    let kind = attributes.get("type").map_or("text", String::as_str);
    let choice = kind == "radio" || kind == "checkbox";
    if (choice && !attributes.contains_key("checked")) || kind == "submit" {
        return;
    }
    let value = attributes.get("value").cloned().unwrap_or_default();
    form.fields.insert(name.clone(), value);
}

enum Tag {
    Start(String, BTreeMap<String, String>),
    End(String),
    Text(String),
}

fn tokens(html: &str) -> Vec<Tag> {
    Tokenizer::new(html).flatten().filter_map(read).collect()
}

fn read(token: Token) -> Option<Tag> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match token {
        Token::StartTag(tag) => {
            let pairs = tag.attributes.iter();
            let pairs = pairs.map(|(name, value)| (text(name), text(value)));
            Some(Tag::Start(text(&tag.name), pairs.collect()))
        }
        Token::EndTag(tag) => Some(Tag::End(text(&tag.name))),
        Token::String(words) => Some(Tag::Text(text(&words))),
        _ => None,
    }
}

/// As forms are sent (URL Standard, application/x-www-form-urlencoded).
fn encoded(fields: &BTreeMap<String, String>) -> String {
    let mut url = Url::parse("form:").expect("a scheme is an address");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_found_as_the_page_filled_them_in() {
        let page = Page {
            url: Url::parse("https://pay.example/t/x").expect("an address"),
            status: 200,
            html: "<form method=post action=/claim><input type=hidden name=a value=\"1&amp;2\">\
                   <input type=radio name=b value=x><input type=radio name=b value=y checked></form>"
                .into(),
        };
        let form = page.form("/claim").expect("it is there");
        assert!(form.post);
        assert_eq!(encoded(&form.fields), "a=1%262&b=y");
    }
}
