//! What does the bank's own sign-in page look like?

use super::Request;

const STYLE: &str = "body{font:1.05rem/1.5 system-ui,sans-serif;max-width:24rem;margin:12vh auto;\
    padding:0 1.25rem;color:#14213d;background:#f5f7fb}h1{font-size:1.4rem}label{display:block;\
    margin:1rem 0 .25rem}input{font:inherit;width:100%;padding:.6rem;box-sizing:border-box;\
    border:1px solid #8892a6;border-radius:.4rem}button{font:inherit;margin-top:1.5rem;width:100%;\
    padding:.75rem;border:0;border-radius:.4rem;background:#14213d;color:#fff}\
    .wrong{color:#9b1c1c}";

/// The form, for the site that asks; `wrong`: why it is shown again.
pub(super) fn form(party: &str, request: &Request, wrong: Option<&str>) -> String {
    let hidden: String = [
        ("response_type", &request.response_type),
        ("client_id", &request.client_id),
        ("redirect_uri", &request.redirect_uri),
        ("scope", &request.scope),
        ("state", &request.state),
        ("nonce", &request.nonce),
        ("code_challenge", &request.code_challenge),
        ("code_challenge_method", &request.code_challenge_method),
    ]
    .iter()
    .map(|(name, value)| {
        format!(
            "<input type=hidden name={name} value=\"{}\">",
            escaped(value)
        )
    })
    .collect();
    let wrong = wrong.map_or(String::new(), |wrong| {
        format!("<p class=wrong role=alert>{}</p>", escaped(wrong))
    });
    whole(&format!(
        "<h1>Demo bank</h1><p>Sign in to go on to {}.</p>{wrong}<form method=post>{hidden}\
         <label for=shopper>Name</label>\
         <input id=shopper name=shopper autocomplete=username required autofocus>\
         <label for=password>Password</label>\
         <input id=password name=password type=password autocomplete=current-password required>\
         <button>Sign in</button></form>",
        escaped(party)
    ))
}

/// A page without a way on.
pub(super) fn refused(why: &str) -> String {
    whole(&format!("<h1>Demo bank</h1><p>{}</p>", escaped(why)))
}

fn whole(body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>Demo bank</title><style>{STYLE}</style><main>{body}</main></html>"
    )
}

fn escaped(text: &str) -> String {
    let one = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#39;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(one).collect()
}
