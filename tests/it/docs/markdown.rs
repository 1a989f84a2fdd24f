//! As much of Markdown as our documents use.

use std::{collections::BTreeSet, path::Path};

/// A file for people.
pub struct Document {
    /// Its path below the root.
    pub name: String,
    /// All of it.
    pub text: String,
    /// The first one stands before any heading and has level 0.
    pub sections: Vec<Section>,
}

/// From one heading to the next.
pub struct Section {
    /// How many `#` the heading has.
    pub level: usize,
    /// The heading.
    pub title: String,
    /// Everything but blocks of code.
    prose: String,
    blocks: Vec<Block>,
}

struct Block {
    language: String,
    text: String,
}

impl Document {
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut sections = vec![Section::new(0, "")];
        let mut block: Option<Block> = None;
        for line in text.lines() {
            let section = sections.last_mut().expect("there is always one");
            match (&mut block, line.trim_start().strip_prefix("```")) {
                (Some(_), Some(_)) => section.blocks.extend(block.take()),
                (Some(open), None) => open.text.extend([line, "\n"]),
                (None, Some(language)) => {
                    block = Some(Block {
                        language: language.to_owned(),
                        text: String::new(),
                    });
                }
                (None, None) => match line.trim_start_matches('#') {
                    title if title.len() < line.len() && title.starts_with(' ') => {
                        sections.push(Section::new(line.len() - title.len(), title.trim()));
                    }
                    _ => section.prose.extend([line, "\n"]),
                },
            }
        }
        assert!(block.is_none(), "{}: a block of code does not end", path.display());
        Self {
            name: path.display().to_string(),
            text: text.to_owned(),
            sections,
        }
    }

    /// What stands between backticks in the text.
    pub fn spans(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().flat_map(Section::all_spans)
    }

    /// What stands between backticks, and the blocks that are for a shell.
    pub fn codes(&self) -> Vec<&str> {
        let blocks = self.sections.iter().flat_map(|section| &section.blocks);
        let shell = blocks
            .filter(|block| block.language == "sh")
            .map(|block| block.text.as_str());
        self.spans().chain(shell).collect()
    }

    /// The first cell of every row of every table.
    pub fn first_cells(&self) -> impl Iterator<Item = &str> {
        let rows = self.sections.iter().flat_map(|section| section.prose.lines());
        rows.filter_map(|line| line.strip_prefix('|')?.split('|').next().map(str::trim))
    }

    pub fn links(&self) -> Vec<(String, String)> {
        self.sections.iter().flat_map(Section::links).collect()
    }
}

impl Section {
    fn new(level: usize, title: &str) -> Self {
        Self {
            level,
            title: title.to_owned(),
            prose: String::new(),
            blocks: Vec::new(),
        }
    }

    fn all_spans(&self) -> impl Iterator<Item = &str> {
        self.prose.split('`').skip(1).step_by(2)
    }

    /// What stands between backticks, whatever the order of words in a language.
    pub fn spans(&self) -> BTreeSet<&str> {
        self.all_spans().collect()
    }

    /// The blocks of code: those for a shell without comments, which are for people; of others the language.
    pub fn commands(&self) -> Vec<String> {
        let blocks = self.blocks.iter().map(|block| {
            if block.language == "sh" {
                let lines = block.text.lines().map(without_comment);
                lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
            } else {
                format!("{}: {} lines", block.language, block.text.lines().count())
            }
        });
        blocks.collect()
    }

    pub fn table_rows(&self) -> usize {
        self.prose.lines().filter(|line| line.starts_with('|')).count()
    }

    pub fn list_items(&self) -> usize {
        self.prose.lines().filter(|line| line.starts_with("- ")).count()
    }

    /// `[text](target)`.
    pub fn links(&self) -> Vec<(String, String)> {
        let starts = self.prose.match_indices("](");
        let link = |(at, _): (usize, &str)| {
            let text = self.prose[..at].rsplit('[').next()?;
            let target = self.prose[at + 2..].split(')').next()?;
            Some((text.to_owned(), target.to_owned()))
        };
        starts.filter_map(link).collect()
    }
}

fn without_comment(line: &str) -> &str {
    let line = if line.starts_with('#') { "" } else { line };
    line.split(" # ").next().unwrap_or(line).trim_end()
}

/// The simple commands in a piece of shell, without quoted texts and without variables set before them.
pub fn quoted_commands(code: &str) -> Vec<String> {
    let lines = code.lines().map(|line| without_quoted(without_comment(line)));
    let mut commands = Vec::new();
    for line in lines {
        for command in line.split(['&', '|', ';', '(', ')']) {
            let is_setting = |word: &&str| word.split_once('=').is_some_and(|(name, _)| is_name(name));
            let words = command.split_whitespace().skip_while(is_setting);
            commands.push(words.collect::<Vec<_>>().join(" "));
        }
    }
    commands.retain(|command| !command.is_empty());
    commands
}

/// Leaves out what stands between quotes on this line; a quote that does not end takes the rest.
fn without_quoted(line: &str) -> String {
    let mut open = None;
    let is_outside = |character: &char| {
        if let Some(quote) = open {
            open = Some(quote).filter(|quote| quote != character);
            return false;
        }
        open = Some(*character).filter(|one| matches!(one, '"' | '\''));
        open.is_none()
    };
    line.chars().filter(is_outside).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// `DATABASE_URL`.
pub fn is_variable(text: &str) -> bool {
    text.contains('_')
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// `links_lead_somewhere`.
pub fn is_function(text: &str) -> bool {
    text.contains('_')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
