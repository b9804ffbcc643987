//! The page: one self-contained HTML file that shows a profile, from disk and without a network.
//!
//! A person who got a `report.html` by mail must be able to open it, so everything is inside: the style,
//! the program and the data. The sources lie in `exporter/page/` as plain HTML, CSS and JavaScript and are
//! joined here at compile time; there is no bundler, so `cargo build` needs nothing but Rust.
//!
//! Two libraries were weighed for the flame graph. d3-flame-graph (24.6 KB compressed with the parts of d3
//! that it needs) makes one SVG node per frame, which stops being fluid long before the 50,000 frames
//! of a real window. react-pprof (95 KB compressed with React) and speedscope (an application of half a
//! megabyte) cannot show one span alone, hide runtime frames or split a frame by kind of time. A canvas of
//! our own is a few hundred lines, needs no build step, and is redrawn in a few milliseconds.
//!
//! Safety: the content security policy forbids everything but the two inline blocks, by their SHA-256, and
//! `data:` images. Names come from foreign processes: they reach the page only inside one JSON block in
//! which no `<` is left, and the program puts them on the screen as text nodes only.

mod data;
mod owners;
mod policy;
mod told;

use crate::Profile;
use crate::links::LinkTemplate;

/// What the page says about a recording beside the profile itself.
#[derive(Debug, Clone, Default)]
pub struct PageDetails {
    /// What was recorded, for the heading; where empty, the services in the profile are named.
    pub title: String,
    /// One line on how it was recorded: the capture backend, the command, the host. May be empty.
    pub source: String,
    /// What was lost, truncated or left out, one entry per cause; shown as numbers, also when all are 0.
    pub losses: Vec<Loss>,
    /// Where else a message, a destination or a service can be looked at.
    pub links: Vec<LinkTemplate>,
}

/// One way in which something was lost, with how much that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The cause in words that follow the amount, such as `samples had no room in the ring buffer`.
    pub cause: String,
    /// How much.
    pub amount: LossAmount,
}

/// How much was lost; the page writes it in units that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossAmount {
    /// So many things or times.
    Count(u64),
    /// So much time, in nanoseconds.
    Nanoseconds(u64),
}

const TEMPLATE: &str = include_str!("../../page/page.html");
const STYLE: &str = concat!(include_str!("../../page/layout.css"), include_str!("../../page/parts.css"));
const SCRIPT: &str = concat!(
    "\"use strict\";(() => {\n",
    include_str!("../../page/text.js"),
    include_str!("../../page/model.js"),
    include_str!("../../page/canvas.js"),
    include_str!("../../page/flame.js"),
    include_str!("../../page/table.js"),
    include_str!("../../page/address.js"),
    include_str!("../../page/classes.js"),
    include_str!("../../page/difference.js"),
    include_str!("../../page/links.js"),
    include_str!("../../page/profile.js"),
    include_str!("../../page/overview.js"),
    include_str!("../../page/messages.js"),
    include_str!("../../page/message.js"),
    include_str!("../../page/comparison.js"),
    include_str!("../../page/tables.js"),
    include_str!("../../page/health.js"),
    include_str!("../../page/live.js"),
    include_str!("../../page/main.js"),
    "})();\n"
);

/// Draws a profile as one HTML document.
///
/// The document is complete: write it to a file or serve it. It asks for nothing from anywhere. Names
/// longer than 2,048 characters are shortened, with their length told; sums are exact (nanoseconds).
pub fn render(profile: &Profile, details: &PageDetails) -> String {
    document(&data_json(profile, details), &policy::content_security_policy(SCRIPT, STYLE))
}

/// What [`render`] puts into the document of a profile, alone: one JSON object without any `<`, for a page that asks for it.
pub fn data_json(profile: &Profile, details: &PageDetails) -> String {
    data::to_json(profile, details)
}

/// The same page for a server: instead of a profile it holds `{"live":true}` and asks where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePage {
    /// The document.
    pub html: String,
    /// Its content security policy, which is in it too; the server sends it as a header, where it holds from the first byte.
    pub policy: String,
}

/// The page without data, for a server that answers what it asks for.
pub fn live() -> LivePage {
    let policy = format!("{}; connect-src 'self'", policy::content_security_policy(SCRIPT, STYLE));
    LivePage { html: document("{\"live\":true}", &policy), policy }
}

fn document(data: &str, policy: &str) -> String {
    fill(TEMPLATE, &[("policy", policy), ("style", STYLE), ("data", data), ("script", SCRIPT)])
}

/// Puts each value at its `{{name}}` mark, in one pass over the template: a mark inside a value stays text.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut page =
        String::with_capacity(template.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        match after.split_once("}}") {
            Some((name, tail)) => {
                if let Some((_, value)) = values.iter().find(|(known, _)| *known == name) {
                    page.push_str(value);
                }
                rest = tail;
            }
            None => {
                page.push_str("{{");
                rest = after;
            }
        }
    }
    page.push_str(rest);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page's own weight, before any data, that a mail or a chat carries without a thought.
    const WEIGHT_LIMIT: usize = 160 * 1024;

    #[test]
    fn a_mark_inside_a_value_stays_text() {
        assert_eq!(fill("a{{x}}b{{y}}c", &[("x", "{{y}}"), ("y", "1")]), "a{{y}}b1c");
    }

    #[test]
    fn an_empty_page_is_light_and_has_every_mark_filled() {
        let page = render(&Profile::default(), &PageDetails::default());
        assert!(page.len() <= WEIGHT_LIMIT, "the page weighs {} bytes", page.len());
        assert!(!page.contains("{{"), "a mark was left in the page");
    }

    #[test]
    fn a_live_page_may_ask_its_own_server_and_nobody_else() {
        let live = live();
        assert!(live.policy.starts_with("default-src 'none';"), "{}", live.policy);
        assert_eq!(live.policy.matches("connect-src 'self'").count(), 1, "{}", live.policy);
        assert!(live.html.contains(&live.policy) && live.html.contains("{\"live\":true}"));
        assert!(!render(&Profile::default(), &PageDetails::default()).contains("connect-src"));
    }

    #[test]
    fn the_page_names_no_address_to_load_from() {
        let page = render(&Profile::default(), &PageDetails::default());
        for forbidden in ["src=\"http", "href=\"http", "url(http", "@import", "import(", "innerHTML", "eval("]
        {
            assert!(!page.contains(forbidden), "the page contains {forbidden}");
        }
    }

    #[test]
    fn the_inline_blocks_cannot_end_early() {
        for source in [STYLE, SCRIPT] {
            assert!(!source.contains("</script") && !source.contains("</style") && !source.contains("<!--"));
        }
    }
}
