//! HTML by construction: what is text stays text, whatever it spells.

use std::fmt::Display;

/// A piece of a page. Texts and attributes that went into it have been escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a piece behind.
    pub fn push(&mut self, piece: impl Into<Self>) {
        self.0 += &piece.into().0;
    }
}

/// An element of that name around its content.
pub fn tag(name: &'static str, content: impl Into<Markup>) -> Markup {
    tag_with(name, &[], content)
}

/// The same with attributes.
pub fn tag_with(
    name: &'static str,
    attributes: &[(&'static str, &str)],
    content: impl Into<Markup>,
) -> Markup {
    let mut markup = format!("<{name}");
    for (attribute, value) in attributes {
        markup += &format!(" {attribute}=\"{}\"", escaped(value));
    }
    markup += ">";
    markup += &content.into().0;
    markup += &format!("</{name}>");
    // Lines of a readable length, where white space means nothing.
    if ["p", "tr", "section", "table", "figure", "svg", "li", "dd", "h2", "h3"].contains(&name) {
        markup += "\n";
    }
    Markup(markup)
}

/// A table with a caption, that scrolls by itself where the page is too narrow for it. The first cell of every row
/// names it.
pub fn table(caption: &str, head: &[&str], rows: impl IntoIterator<Item = Vec<Markup>>) -> Markup {
    table_of("wide", caption, head, rows)
}

/// The same of figures, which stay on one line.
pub fn figures(caption: &str, head: &[&str], rows: impl IntoIterator<Item = Vec<Markup>>) -> Markup {
    table_of("wide figures", caption, head, rows)
}

fn table_of(
    class: &str,
    caption: &str,
    head: &[&str],
    rows: impl IntoIterator<Item = Vec<Markup>>,
) -> Markup {
    let columns = head.iter().map(|name| tag_with("th", &[("scope", "col")], *name)).collect::<Markup>();
    let rows = rows.into_iter().map(|cells| {
        let cells = cells.into_iter().enumerate().map(|(i, cell)| match i {
            0 => tag_with("th", &[("scope", "row")], cell),
            _ => tag("td", cell),
        });
        tag("tr", cells.collect::<Markup>())
    });
    let table = tag(
        "table",
        [tag("caption", caption), tag("thead", tag("tr", columns)), tag("tbody", rows.collect::<Markup>())],
    );
    tag_with(
        "div",
        &[("class", class), ("role", "region"), ("aria-label", caption), ("tabindex", "0")],
        table,
    )
}

/// Terms and what is said of each.
pub fn terms<'a>(all: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    let pairs = all.into_iter().map(|(term, said)| Markup::from([tag("dt", term), tag("dd", said)]));
    tag("dl", pairs.collect::<Markup>())
}

/// A name of a file's key as it is read: `path_inefficiency` is `path inefficiency`.
pub fn spoken(key: &str) -> String {
    key.replace(['_', '-'], " ")
}

/// A number of no known precision: whole, or with four digits that matter, about.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if !size.is_finite() => return "not a number".to_owned(),
        _ if value.fract() == 0.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// Text in which nothing is markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            // A page cannot hold what is no letter; the others are white space.
            letter if letter.is_control() && !"\n\t".contains(letter) => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

impl From<&str> for Markup {
    fn from(text: &str) -> Self {
        Self(escaped(text))
    }
}

impl From<String> for Markup {
    fn from(text: String) -> Self {
        Self(escaped(&text))
    }
}

impl From<Vec<Markup>> for Markup {
    fn from(pieces: Vec<Markup>) -> Self {
        pieces.into_iter().collect()
    }
}

impl<const N: usize> From<[Markup; N]> for Markup {
    fn from(pieces: [Markup; N]) -> Self {
        pieces.into_iter().collect()
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(pieces: I) -> Self {
        let mut whole = Self::none();
        pieces.into_iter().for_each(|piece| whole.push(piece));
        whole
    }
}

impl Display for Markup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_text_stays_text() {
        let name = "<script>alert('1 & \"2\"')</script>\u{7}";
        let safe = "&lt;script&gt;alert(&#39;1 &amp; &quot;2&quot;&#39;)&lt;/script&gt;\u{fffd}";
        assert_eq!(tag("td", name).to_string(), format!("<td>{safe}</td>"));
        let attribute = tag_with("span", &[("title", name)], "x").to_string();
        assert_eq!(attribute, format!("<span title=\"{safe}\">x</span>"));
        // Markup that was built goes in as it is.
        assert_eq!(tag("b", tag("i", "<")).to_string(), "<b><i>&lt;</i></b>");
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let shown = [100.0, -161.04, 12.345, 0.98213, -0.5, f64::NAN].map(number);
        assert_eq!(shown, ["100", "-161.0", "12.35", "0.982", "-0.500", "not a number"]);
    }
}
