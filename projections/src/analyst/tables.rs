//! What tables of a projection may be: such that partitions are filled side by side, in any order of streams.

use super::{
    lexer::{Kind, Token},
    parse::Statement,
    rules::Rules,
};

const FLOATS: &[&str] = &["real", "float", "float4", "float8", "double"];
const COUNTED: &[&str] = &[
    "serial",
    "bigserial",
    "smallserial",
    "serial2",
    "serial4",
    "serial8",
    "identity",
];

impl Rules<'_> {
    /// What makes tables.
    pub(super) fn definition(&mut self, statement: &Statement) {
        for parameter in statement.tokens.iter().filter(|token| token.kind == Kind::Parameter) {
            self.wrong(
                parameter.span.clone(),
                "there is no event here; parameters stand below `-- on …` only",
            );
        }
        let word = |at: usize| self.name(statement.tokens.get(at));
        let named = statement.tokens.get(2).filter(|token| token.kind == Kind::Quoted);
        if let Some(named) = named {
            return self.wrong(
                named.span.clone(),
                "give it a name that needs no quotes: everybody who reads would have to write them",
            );
        }
        match (word(0).as_str(), word(1).as_str(), word(2).as_str()) {
            ("create", "table" | "index" | "view", "if") => {
                self.wrong(statement.start(), "leave `if not exists` away: the schema is new");
            }
            ("create", "table", _) => self.table(statement),
            ("create", "index" | "view", _) => {}
            ("create", "unique", "index") => {
                self.wrong(
                    statement.start(),
                    "write a key into the table, `unique (partition, …)`: indexes are made when it is full",
                );
            }
            ("insert" | "update" | "delete" | "merge" | "with", ..) => {
                self.wrong(statement.start(), "write `-- on <event type>` above what changes rows");
            }
            _ => self.wrong(
                statement.start(),
                "before the first `-- on …` stand `create table`, `create index` and `create view` only",
            ),
        }
    }

    /// Columns and keys of a table: each row belongs to one partition, and its key says so.
    fn table(&mut self, statement: &Statement) {
        let tokens = &statement.tokens;
        if !self.is(tokens.get(3), "(") {
            let at = tokens.get(3).unwrap_or(&tokens[0]).span.clone();
            return self.wrong(
                at,
                "a table is written `create table name (column type, …, primary key (…))`",
            );
        }
        let (elements, behind) = self.elements(tokens, 4);
        if let Some(extra) = tokens.get(behind)
            && !extra.is_word(&self.source.text, "with")
        {
            self.wrong(extra.span.clone(), "behind the columns stands nothing but `with (…)`");
        }
        let mut has_partition = false;
        let mut has_key = false;
        for element in elements {
            let named = usize::from(self.name(element.first()) == "constraint") * 2;
            let first = self.name(element.get(named));
            match first.as_str() {
                "primary" | "unique" => {
                    has_key |= first == "primary";
                    self.key(&element[named..]);
                }
                "check" => {}
                "foreign" | "exclude" | "like" => {
                    self.wrong(
                        element[named].span.clone(),
                        format!("`{first}` is not for projections: rows of other events may come later"),
                    );
                }
                _ => {
                    let is_partition = first == "partition";
                    has_partition |= is_partition;
                    has_key |= self.column(element, is_partition);
                }
            }
        }
        let name = tokens[2].span.clone();
        if !has_partition {
            self.wrong(name, "the table lacks the column `partition smallint not null`: every row is written by one partition, and says which");
        } else if !has_key {
            self.wrong(name, "the table lacks a key: `primary key (partition, …)`");
        }
    }

    /// What stands between commas up to the closing parenthesis, and where that ends.
    fn elements<'t>(&self, tokens: &'t [Token], start: usize) -> (Vec<&'t [Token]>, usize) {
        let (mut elements, mut from, mut depth) = (Vec::new(), start, 0_i32);
        for (at, token) in tokens.iter().enumerate().skip(start) {
            match token.text(&self.source.text) {
                "(" if token.kind == Kind::Symbol => depth += 1,
                ")" if token.kind == Kind::Symbol => {
                    depth -= 1;
                    if depth < 0 {
                        elements.push(&tokens[from..at]);
                        elements.retain(|element| !element.is_empty());
                        return (elements, at + 1);
                    }
                }
                "," if token.kind == Kind::Symbol && depth == 0 => {
                    elements.push(&tokens[from..at]);
                    from = at + 1;
                }
                _ => {}
            }
        }
        (elements, tokens.len())
    }

    /// `primary key (…)` or `unique (…)`.
    fn key(&mut self, element: &[Token]) {
        if !element.iter().any(|token| self.name(Some(token)) == "partition") {
            self.wrong(
                element[0].span.clone(),
                "a key includes the column partition: two partitions may write the same at the same time",
            );
        }
    }

    /// Whether the column is the primary key by itself.
    fn column(&mut self, element: &[Token], is_partition: bool) -> bool {
        let mut key = false;
        if element[0].kind == Kind::Quoted {
            self.wrong(element[0].span.clone(), "give the column a name that needs no quotes");
        }
        for token in element.iter().skip(1) {
            let word = self.name(Some(token));
            match word.as_str() {
                "primary" | "unique" => {
                    key |= word == "primary";
                    if !is_partition {
                        self.key(std::slice::from_ref(token));
                    }
                }
                "references" => self.wrong(
                    token.span.clone(),
                    "a row may not need another: rows of other events may come later",
                ),
                counted if COUNTED.contains(&counted) => {
                    self.wrong(
                        token.span.clone(),
                        format!(
                            "{counted} counts otherwise when the table is built anew; :position is a number of its own"
                        ),
                    );
                }
                float if FLOATS.contains(&float) => {
                    self.wrong(
                        token.span.clone(),
                        "sums of floating point numbers depend on their order; take bigint or numeric",
                    );
                }
                _ => {}
            }
        }
        if is_partition && !matches!(self.name(element.get(1)).as_str(), "smallint" | "int2") {
            self.wrong(element[0].span.clone(), "the column partition is a smallint");
        }
        key
    }
}
