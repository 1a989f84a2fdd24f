//! Cuts SQL into tokens as PostgreSQL does, and knows the parameters of projections besides.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A literal in single quotes, with an `E`, `B` or `X` before it if there is one.
    Text,
    /// A number.
    Number,
    /// `:payload.paid.amount`, `:position`.
    Parameter,
    /// `-- …`, without the end of its line, or `/* … */`.
    Comment,
    /// Anything else: one character, but for `::`, `:=` and `=>`.
    Symbol,
    /// What a projection may not hold, with what is said of it.
    Refused(&'static str),
}

/// A piece of the text, by its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub span: Range<usize>,
}

impl Token {
    pub fn text<'a>(&self, source: &'a str) -> &'a str {
        source.get(self.span.clone()).unwrap_or_default()
    }

    /// Whether it is this keyword, which is given in lower case.
    pub fn is_word(&self, source: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(source).eq_ignore_ascii_case(word)
    }

    pub fn is_symbol(&self, source: &str, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text(source) == symbol
    }
}

/// Everything but white space, in order.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip(char::is_whitespace);
        let start = lexer.at;
        let Some(first) = lexer.peek() else { return tokens };
        let kind = lexer.token(first);
        tokens.push(Token {
            kind,
            span: start..lexer.at,
        });
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn skip(&mut self, mut wanted: impl FnMut(char) -> bool) {
        while let Some(next) = self.peek()
            && wanted(next)
        {
            self.at += next.len_utf8();
        }
    }

    fn skip_one(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn token(&mut self, first: char) -> Kind {
        let second = self.second();
        match first {
            '-' if second == Some('-') => {
                self.skip(|next| next != '\n' && next != '\r');
                Kind::Comment
            }
            '/' if second == Some('*') => self.block_comment(),
            '\'' => self.text(),
            // PostgreSQL goes on with the backslashes in a text behind it on another line, and so ends that one
            // elsewhere than we do: whatever we took for a text there would be a statement.
            'e' | 'E' if second == Some('\'') => {
                self.skip_one();
                self.text();
                Kind::Refused("texts with E are not read; write the characters themselves")
            }
            'b' | 'B' | 'x' | 'X' | 'n' | 'N' if second == Some('\'') => {
                self.skip_one();
                self.text()
            }
            'u' | 'U' if self.rest().get(1..3).is_some_and(|next| next == "&'" || next == "&\"") => {
                self.at += 3;
                Kind::Refused("texts and names with U& are not read; write the characters themselves")
            }
            '"' => self.quoted(),
            '$' => {
                self.skip_one();
                self.skip(|next| next == '$' || is_within(next));
                Kind::Refused("$ stands for nothing here; parameters are written :like_this, texts in single quotes")
            }
            '\\' => {
                self.skip_one();
                Kind::Refused("commands of psql are not SQL")
            }
            '0'..='9' => {
                self.skip(|next| next.is_ascii_alphanumeric() || next == '.' || next == '_');
                Kind::Number
            }
            '.' if second.is_some_and(|next| next.is_ascii_digit()) => {
                self.skip(|next| next.is_ascii_alphanumeric() || next == '.');
                Kind::Number
            }
            ':' => self.colon(second),
            '=' if second == Some('>') => {
                self.at += 2;
                Kind::Symbol
            }
            _ if begins(first) => {
                self.skip(is_within);
                Kind::Word
            }
            '\0' => {
                self.skip_one();
                Kind::Refused("the character U+0000 is in no SQL")
            }
            _ => {
                self.skip_one();
                Kind::Symbol
            }
        }
    }

    fn block_comment(&mut self) -> Kind {
        let mut depth = 0_u32;
        loop {
            let rest = self.rest();
            if rest.starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if rest.starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Kind::Comment;
                }
            } else if rest.is_empty() {
                return Kind::Refused("this comment is not closed by */");
            } else {
                self.skip_one();
            }
        }
    }

    /// From the opening quote on.
    fn text(&mut self) -> Kind {
        self.skip_one();
        loop {
            match (self.peek(), self.second()) {
                (None, _) => return Kind::Refused("this text is not closed by '"),
                (Some('\''), Some('\'')) => self.at += 2,
                (Some('\''), _) => {
                    self.skip_one();
                    return Kind::Text;
                }
                _ => self.skip_one(),
            }
        }
    }

    fn quoted(&mut self) -> Kind {
        self.skip_one();
        loop {
            match (self.peek(), self.second()) {
                (None, _) => return Kind::Refused("this name is not closed by \""),
                (Some('"'), Some('"')) => self.at += 2,
                (Some('"'), _) => {
                    self.skip_one();
                    return Kind::Quoted;
                }
                _ => self.skip_one(),
            }
        }
    }

    fn colon(&mut self, second: Option<char>) -> Kind {
        self.skip_one();
        match second {
            Some(':' | '=') => {
                self.skip_one();
                Kind::Symbol
            }
            Some(next) if begins(next) => {
                self.skip(is_within);
                // `.name` and `."any key"`, as deep as it goes.
                while self.peek() == Some('.') {
                    match self.second() {
                        Some(next) if begins(next) => {
                            self.skip_one();
                            self.skip(is_within);
                        }
                        Some('"') => {
                            self.skip_one();
                            if let refused @ Kind::Refused(_) = self.quoted() {
                                return refused;
                            }
                        }
                        _ => break,
                    }
                }
                Kind::Parameter
            }
            _ => Kind::Symbol,
        }
    }
}

fn begins(letter: char) -> bool {
    letter.is_alphabetic() || letter == '_' || (!letter.is_ascii() && !letter.is_whitespace())
}

fn is_within(letter: char) -> bool {
    begins(letter) || letter.is_ascii_digit() || letter == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(source: &str) -> Vec<(Kind, &str)> {
        let tokens = tokens(source);
        tokens
            .into_iter()
            .map(|token| (token.kind, token.text(source)))
            .collect()
    }

    #[test]
    fn parameters_are_told_from_casts() {
        use Kind::{Parameter, Symbol, Word};
        assert_eq!(
            cut(":payload.paid.amount::numeric"),
            [(Parameter, ":payload.paid.amount"), (Symbol, "::"), (Word, "numeric")]
        );
        assert_eq!(
            cut(r#":payload.attributes."신발 크기".x"#),
            [(Parameter, r#":payload.attributes."신발 크기".x"#)]
        );
        assert_eq!(cut("a:=b")[1], (Symbol, ":="));
    }

    #[test]
    fn nothing_within_texts_names_and_comments_counts() {
        use Kind::{Comment, Quoted, Symbol, Text, Word};
        assert_eq!(
            cut("'it''s; :x' /* a /* b */ ; */ \"q\"\"; :y\" -- ; :z\n;"),
            [
                (Text, "'it''s; :x'"),
                (Comment, "/* a /* b */ ; */"),
                (Quoted, "\"q\"\"; :y\""),
                (Comment, "-- ; :z"),
                (Symbol, ";")
            ]
        );
        assert_eq!(cut(r"'a\' n'b'"), [(Text, r"'a\'"), (Text, "n'b'")]);
        assert_eq!(cut("가격 x1$"), [(Word, "가격"), (Word, "x1$")]);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        for source in [
            "'abc",
            "\"abc",
            "/* a /* b */",
            "$$ x $$",
            "$1",
            "u&'x'",
            r"e'x'",
            "E'x'\n'\\' || '); reset role; commit; --'",
            "\\d",
            ":payload.\"x",
        ] {
            assert!(
                cut(source).iter().any(|(kind, _)| matches!(kind, Kind::Refused(_))),
                "{source}"
            );
        }
    }

    #[test]
    fn every_byte_of_any_text_is_in_one_token_or_blank() {
        for source in [
            "a'b\u{1F600}:",
            ":",
            "::",
            ":a.",
            ":a.\"",
            "1.2.3e",
            "-",
            "/",
            "\0",
            "=>",
            "U&",
        ] {
            let mut at = 0;
            for token in tokens(source) {
                assert!(
                    token.span.start >= at && token.span.end > token.span.start,
                    "{source:?}"
                );
                at = token.span.end;
            }
            assert_eq!(at, source.trim_end().len(), "{source:?}");
        }
    }
}
