//! What statements of a projection may be: such that a table made anew is the table that was.

use std::ops::Range;

use super::{
    lexer::{Kind, Token},
    parse::{Parsed, Statement},
    problem::{Problem, Source, meant},
    render,
    shape::Shape,
};

/// Functions that say something else when asked again, or that reach beyond the tables. PostgreSQL is
/// asked about every other one.
pub(super) const REFUSED_FUNCTIONS: &[&str] = &[
    "now",
    "random",
    "random_normal",
    "setseed",
    "nextval",
    "currval",
    "lastval",
    "setval",
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    // With one argument it counts from today.
    "age",
    "set_config",
    "current_setting",
    "current_query",
    "version",
    "inet_client_addr",
    "inet_server_addr",
    "inet_client_port",
    "inet_server_port",
    "txid_current",
    "query_to_xml",
    "table_to_xml",
    "cursor_to_xml",
    "schema_to_xml",
    "database_to_xml",
    "query_to_xmlschema",
    "table_to_xmlschema",
    "cursor_to_xmlschema",
    "schema_to_xmlschema",
    "database_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml_and_xmlschema",
    "database_to_xml_and_xmlschema",
    "current_database",
    "current_schemas",
    "getdatabaseencoding",
    "to_regclass",
    "to_regrole",
    "has_table_privilege",
    "has_schema_privilege",
    "obj_description",
    "col_description",
    "row_security_active",
];
/// Functions that are written without parentheses.
const REFUSED_WORDS: &[&str] = &[
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "current_role",
    "current_catalog",
    "current_schema",
    "tablesample",
    "system_user",
    // What they name has another number in every build.
    "regclass",
    "regtype",
    "regrole",
    "regproc",
    "regprocedure",
    "regnamespace",
];
/// Columns that PostgreSQL keeps for itself.
const SYSTEM_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];
/// Texts that become the moment of reading them.
const MOMENTS: &[&str] = &["now", "today", "tomorrow", "yesterday"];
/// Functions whose arguments are parted by `from`.
const WITH_FROM: &[&str] = &["extract", "substring", "trim", "overlay"];
/// After these comes a table.
const BEFORE_TABLES: &[&str] = &[
    "from",
    "join",
    "into",
    "update",
    "using",
    "only",
    "table",
    "view",
    "references",
];

/// Everything that is wrong with the statements.
pub(super) fn check(source: &Source, parsed: &Parsed) -> Vec<Problem> {
    let mut rules = Rules {
        source,
        problems: Vec::new(),
    };
    for statement in &parsed.tables {
        rules.words(statement);
        rules.definition(statement);
    }
    for section in &parsed.sections {
        let Some(shape) = Shape::of(section.event_type) else {
            continue;
        };
        if section.statements.is_empty() {
            let message = format!(
                "nothing is done on {}: write a statement or take the heading away",
                section.event_type
            );
            rules.wrong(section.heading.clone(), message);
        }
        for statement in &section.statements {
            rules.words(statement);
            rules.change(statement);
            rules.parameters(statement, &shape, section.event_type);
        }
    }
    rules.problems
}

pub(super) struct Rules<'a> {
    pub(super) source: &'a Source,
    problems: Vec<Problem>,
}

impl Rules<'_> {
    pub(super) fn wrong(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(self.source.problem(span, message));
    }

    /// In lower case, as PostgreSQL reads it; empty for what is no name.
    pub(super) fn name(&self, token: Option<&Token>) -> String {
        let Some(token) = token else { return String::new() };
        let text = token.text(&self.source.text);
        match token.kind {
            Kind::Word => text.to_lowercase(),
            Kind::Quoted => text.trim_matches('"').replace("\"\"", "\""),
            _ => String::new(),
        }
    }

    pub(super) fn is(&self, token: Option<&Token>, symbol: &str) -> bool {
        token.is_some_and(|token| token.is_symbol(&self.source.text, symbol))
    }

    /// Whether no table follows the word before `at`: `is distinct from a.b`, `extract(day from a.b)`.
    fn is_other_from(&self, tokens: &[Token], at: usize, called: Option<&String>) -> bool {
        let before = |back: usize| self.name(at.checked_sub(back).and_then(|at| tokens.get(at)));
        before(1) == "from"
            && (before(2) == "distinct" || called.is_some_and(|name| WITH_FROM.contains(&name.as_str())))
    }

    /// What may stand nowhere.
    fn words(&mut self, statement: &Statement) {
        let tokens = &statement.tokens;
        // What stands before each parenthesis that is open.
        let mut open: Vec<String> = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            if token.is_symbol(&self.source.text, "(") {
                open.push(self.name(at.checked_sub(1).and_then(|at| tokens.get(at))));
            } else if token.is_symbol(&self.source.text, ")") {
                open.pop();
            }
            let (before, next) = (at.checked_sub(1).and_then(|at| tokens.get(at)), tokens.get(at + 1));
            let span = token.span.clone();
            match token.kind {
                Kind::Word | Kind::Quoted => {
                    let name = self.name(Some(token));
                    // Behind a dot it is a column of something that was looked at, or a name too deep.
                    let is_column = self.is(before, ".");
                    let is_called = self.is(next, "(");
                    let is_word = token.kind == Kind::Word;
                    if name.starts_with("jangbu_") || name.starts_with("pg_") || name == "information_schema" {
                        self.wrong(span, "names that begin with jangbu_ or pg_ are not the projection's; it sees its own tables only");
                    } else if is_called && REFUSED_FUNCTIONS.contains(&name.as_str())
                        || is_word && !is_column && REFUSED_WORDS.contains(&name.as_str())
                    {
                        self.wrong(span, volatile(&name));
                    } else if SYSTEM_COLUMNS.contains(&name.as_str()) {
                        self.wrong(
                            span,
                            format!("{name} is PostgreSQL's own and differs when the tables are built anew"),
                        );
                    } else if self.is(next, ".")
                        && !is_column
                        && (name == "public"
                            || BEFORE_TABLES.contains(&self.name(before).as_str())
                                && !self.is_other_from(tokens, at, open.last()))
                    {
                        let table = self.name(tokens.get(at + 2));
                        self.wrong(
                            span.start..tokens.get(at + 2).map_or(span.end, |table| table.span.end),
                            format!("{name}.{table} is of another schema; a projection sees its own tables only, and names them without one"),
                        );
                    }
                }
                Kind::Text => {
                    let text = token.text(&self.source.text);
                    let inner = text
                        .trim_start_matches(|c: char| c != '\'')
                        .trim_matches('\'')
                        .trim()
                        .to_lowercase();
                    // A time of day may follow.
                    let (first, rest) = inner.split_once(char::is_whitespace).unwrap_or((&inner, ""));
                    if MOMENTS.contains(&first) && !rest.contains(char::is_alphabetic) {
                        self.wrong(
                            span,
                            format!("'{inner}' can mean the moment it is read; write :occurred_at or :recorded_at"),
                        );
                    }
                }
                _ => {}
            }
        }
    }

    /// What is done on an event.
    fn change(&mut self, statement: &Statement) {
        let tokens = &statement.tokens;
        let first = self.name(tokens.first());
        let mut depth = 0_i32;
        let mut verb = String::new();
        for token in tokens {
            if token.kind == Kind::Symbol {
                match token.text(&self.source.text) {
                    "(" | "[" => depth += 1,
                    ")" | "]" => depth -= 1,
                    _ => {}
                }
            }
            if depth != 0 || token.kind != Kind::Word {
                continue;
            }
            let word = self.name(Some(token));
            match word.as_str() {
                "insert" | "update" | "delete" | "merge" | "select" | "values" if verb.is_empty() => verb = word,
                "returning" => self.wrong(
                    token.span.clone(),
                    "nobody reads what this returns; leave `returning` away",
                ),
                _ => {}
            }
        }
        let changes = ["insert", "update", "delete", "merge"];
        let is_change = changes.contains(&first.as_str()) || first == "with" && changes.contains(&verb.as_str());
        if !is_change {
            let message = match first.as_str() {
                "create" => "tables, indexes and views are made before the first `-- on …`",
                _ => "below `-- on …` stand insert, update, delete and merge only",
            };
            self.wrong(statement.start(), message);
        }
    }

    fn parameters(&mut self, statement: &Statement, shape: &Shape, event_type: &str) {
        for token in statement.tokens.iter().filter(|token| token.kind == Kind::Parameter) {
            if let Err((span, message)) = render::parameter(self.source, token, shape, event_type) {
                self.wrong(span, message);
            }
        }
    }
}

/// Why a function cannot be used.
pub(super) fn volatile(name: &str) -> String {
    let instead = match name {
        "now"
        | "current_timestamp"
        | "current_date"
        | "current_time"
        | "localtime"
        | "localtimestamp"
        | "clock_timestamp"
        | "statement_timestamp"
        | "transaction_timestamp"
        | "timeofday" => "; write :occurred_at or :recorded_at",
        "nextval" | "gen_random_uuid" | "uuidv4" | "uuidv7" => "; :event_id and :position are unique",
        _ => "",
    };
    format!("{name} would say something else when the tables are built anew{instead}")
}

/// The closest parameter, to say what was meant.
pub(super) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    meant(wrong, known).map_or_else(String::new, |meant| format!("did you mean {meant}? "))
}
