//! The frame of a page: head, policy, style.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::parts::clip;

const STYLE: &str = include_str!("style.css");

/// A whole page with this title, heading and content; `made_by` is the program that measured.
pub fn page(title: &str, heading: Markup, content: Markup, made_by: &str) -> String {
    // The policy allows this one style by its sum, pictures that lie inside the page, and nothing else.
    let sum = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy =
        format!("default-src 'none'; style-src 'sha256-{sum}'; img-src data:; base-uri 'none'; form-action 'none'");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (clip(title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { (heading) } }
                main { (content) }
                footer.quiet { p { "Measured with " (clip(made_by)) ". Intervals are 95 % confidence intervals. This page needs no script and no other file." } }
            }
        }
    };
    page.into_string()
}
