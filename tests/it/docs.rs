//! Documents are held against the program: what they name exists, and both languages say the same.
//! Needs no service and no network.

mod markdown;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use jangbu::config::VARIABLES;

use self::markdown::{Document, quoted_commands};

/// Of docker-compose.yml alone, and therefore not of the program.
const COMPOSE_VARIABLES: [&str; 2] = ["POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"];
/// Of tests alone.
const TEST_VARIABLES: [&str; 7] = [
    "JANGBU_SEED",
    "JANGBU_SEEDS",
    "JANGBU_TEST_BROKER_CONTROL",
    "JANGBU_TEST_SEED",
    "JANGBU_TEST_TORTURE_SECONDS",
    "JANGBU_WRITE_GOLDEN",
    "PORTONE_OPENAPI",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document for people, relative to the root.
fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> = [
        "README.md",
        "README.ko.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "sandbox/README.md",
    ]
    .map(PathBuf::from)
    .into();
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
        paths.extend(
            entries
                .map(|entry| Path::new(folder).join(entry.expect("an entry").file_name()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
        );
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| Document::parse(&path, &read(&path)))
        .collect()
}

fn readmes() -> [Document; 2] {
    ["README.md", "README.ko.md"].map(|path| Document::parse(Path::new(path), &read(path)))
}

/// Asks the program, once for each command.
#[derive(Default)]
struct Help(BTreeMap<Vec<String>, String>);

impl Help {
    /// What `--help` of a command says; `None` if there is no such command.
    fn of(&mut self, path: &[String]) -> Option<&str> {
        if !self.0.contains_key(path) {
            let output = Command::new(env!("CARGO_BIN_EXE_jangbu"))
                .args(path)
                .arg("--help")
                .output()
                .expect("the program runs");
            if !output.status.success() {
                return None;
            }
            let text = String::from_utf8(output.stdout).expect("help is text");
            self.0.insert(path.to_vec(), text);
        }
        self.0.get(path).map(String::as_str)
    }

    fn subcommands(&mut self, path: &[String]) -> Vec<String> {
        let help = self.of(path).unwrap_or_default();
        let Some((_, list)) = help.split_once("\nCommands:\n") else {
            return Vec::new();
        };
        list.lines()
            .take_while(|line| !line.is_empty())
            // A command stands at an indent of two, what continues its description further in.
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .filter(|name| name != "help")
            .collect()
    }

    /// What is wrong with a call, if anything is.
    fn wrong_with(&mut self, arguments: &[&str]) -> Option<String> {
        let mut path = Vec::new();
        let mut rest = arguments.iter().copied().peekable();
        loop {
            let known = self.subcommands(&path);
            match rest.peek() {
                Some(next) if known.iter().any(|name| name == next) => {
                    path.extend(rest.next().map(str::to_owned));
                }
                Some(next) if !known.is_empty() && !next.starts_with('-') => {
                    return Some(format!("there is no command `{next}`"));
                }
                _ => break,
            }
        }
        let help = self.of(&path)?.to_owned();
        let mut after_flag = false;
        for argument in rest {
            if argument.starts_with('-') {
                let flag = argument.split('=').next().unwrap_or(argument);
                let known = help
                    .split(|c: char| c.is_whitespace() || c == ',')
                    .any(|word| word == flag);
                if !known {
                    return Some(format!("there is no flag `{flag}`"));
                }
            } else if !after_flag && !help.contains("\nArguments:\n") {
                return Some(format!("nothing is taken for `{argument}`"));
            }
            after_flag = argument.starts_with('-') && !argument.contains('=');
        }
        None
    }
}

/// The targets of the Makefile; `true` for those that `make help` lists.
fn make_targets() -> BTreeMap<String, bool> {
    read("Makefile")
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let is_target = !rest.starts_with('=') && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            is_target.then(|| (name.to_owned(), rest.contains("##")))
        })
        .collect()
}

#[test]
fn every_command_that_is_named_exists() {
    let (mut help, targets) = (Help::default(), make_targets());
    let (mut seen, mut wrong) = (0, Vec::new());
    for document in documents() {
        for command in document.codes().iter().flat_map(|code| quoted_commands(code)) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let Some((program, arguments)) = words.split_first() else {
                continue;
            };
            let complaint = match program.rsplit('/').next() {
                Some("jangbu") => help.wrong_with(arguments),
                Some("make") => arguments
                    .iter()
                    .find(|target| !target.contains('=') && !targets.contains_key(**target))
                    .map(|target| format!("there is no target `{target}`")),
                _ => continue,
            };
            seen += 1;
            wrong.extend(complaint.map(|complaint| format!("{}: `{command}`: {complaint}", document.name)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen > 100, "only {seen} commands were found");
}

#[test]
fn every_command_that_exists_is_named() {
    let mut help = Help::default();
    let mut all: BTreeSet<String> = make_targets()
        .into_iter()
        .filter(|(_, listed)| *listed)
        .map(|(target, _)| format!("make {target}"))
        .collect();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let below = help.subcommands(&path);
        if below.is_empty() {
            all.insert(format!("jangbu {}", path.join(" ")));
        }
        open.extend(below.into_iter().map(|name| [path.clone(), vec![name]].concat()));
    }
    assert!(all.contains("jangbu log fence") && all.contains("make demo"), "{all:?}");
    for readme in readmes() {
        let named: Vec<&str> = readme.spans().collect();
        let missing: Vec<_> = all
            .iter()
            .filter(|command| {
                !named.iter().any(|code| {
                    code.strip_prefix(command.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                })
            })
            .collect();
        assert!(missing.is_empty(), "{}: {missing:?}", readme.name);
    }
}

#[test]
fn every_variable_is_told_everywhere_and_no_other() {
    let example = read(".env.example");
    let documented: Vec<&str> = example
        .lines()
        .filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='))
        .map(|(name, _)| name)
        .filter(|name| markdown::is_variable(name))
        .collect();
    assert_eq!(documented, [VARIABLES, &COMPOSE_VARIABLES].concat());
    for readme in readmes() {
        let table: Vec<&str> = readme
            .first_cells()
            .filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`'))
            .filter(|code| markdown::is_variable(code))
            .collect();
        assert_eq!(table, VARIABLES, "{}", readme.name);
    }
    for document in documents() {
        for word in document
            .text
            .split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        {
            let ours = ["JANGBU_", "PORTONE_"]
                .iter()
                .any(|prefix| word.len() > prefix.len() && word.starts_with(prefix));
            let known = VARIABLES.contains(&word) || TEST_VARIABLES.contains(&word);
            // PortOne's own codes begin like that too, and are not variables.
            assert!(
                !ours || known || document.name.starts_with("sandbox"),
                "{}: {word}",
                document.name
            );
        }
    }
}

#[test]
fn both_readmes_say_the_same() {
    let [english, korean] = readmes();
    let levels = |document: &Document| {
        document
            .sections
            .iter()
            .map(|section| section.level)
            .collect::<Vec<_>>()
    };
    assert_eq!(levels(&english), levels(&korean));
    assert!(english.sections.len() > 8, "there is something to compare");
    for (ours, theirs) in english.sections.iter().zip(&korean.sections) {
        let title = &ours.title;
        assert_eq!(ours.spans(), theirs.spans(), "code in {title}");
        assert_eq!(ours.commands(), theirs.commands(), "blocks in {title}");
        assert_eq!(ours.table_rows(), theirs.table_rows(), "rows in {title}");
        assert_eq!(ours.list_items(), theirs.list_items(), "items in {title}");
        let links = |section: &markdown::Section| {
            let targets = section.links().into_iter().map(|(_, target)| target);
            targets
                .filter(|target| !target.starts_with("README"))
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(links(ours), links(theirs), "links in {title}");
    }
}

#[test]
fn links_lead_somewhere() {
    let mut tests_named = 0;
    for document in documents() {
        let folder = root()
            .join(&document.name)
            .parent()
            .expect("documents lie in a folder")
            .to_path_buf();
        for (text, target) in document.links() {
            if target.starts_with("https://") {
                continue;
            }
            let (path, _) = target.split_once('#').unwrap_or((&target, ""));
            let path = folder.join(path);
            assert!(path.exists(), "{}: {target} does not exist", document.name);
            let name = text.trim_matches('`');
            if path.extension().is_some_and(|extension| extension == "rs") && markdown::is_function(name) {
                let source = fs::read_to_string(&path).expect("sources are text");
                assert!(source.contains(&format!("fn {name}(")), "{target} has no test `{name}`");
                tests_named += 1;
            }
        }
    }
    assert!(tests_named >= 20, "only {tests_named} tests were found");
}

#[test]
fn every_metric_is_explained_and_no_other() {
    let mut counted = BTreeSet::new();
    for folder in ["src", "projections/src"] {
        metrics_below(&root().join(folder), &mut counted);
    }
    let operating = Document::parse(Path::new("docs/operating.md"), &read("docs/operating.md"));
    let explained: BTreeSet<String> = operating
        .spans()
        .filter(|code| code.starts_with("jangbu_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(explained, counted);
}

fn metrics_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            metrics_below(&path, found);
            continue;
        }
        let source = fs::read_to_string(&path).expect("sources are text");
        // What tests count stands at the end of a file.
        let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for call in ["counter!(", "gauge!(", "histogram!("] {
            found.extend(
                source
                    .split(call)
                    .skip(1)
                    .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
                    .map(str::to_owned),
            );
        }
    }
}
