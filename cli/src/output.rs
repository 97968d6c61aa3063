//! How data is printed. Every list and every thing goes through here, so that all formats work
//! everywhere.

use std::io::{self, Write};

use serde::Serialize;

use crate::args::Format;
use crate::failure::Failure;
use crate::terminal::escape;

/// A column: its title, and whether only the wide table has it.
#[derive(Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub wide: bool,
}

/// A column of every table.
pub const fn column(title: &'static str) -> Column {
    Column { title, wide: false }
}

/// A column of wide tables.
pub const fn wide(title: &'static str) -> Column {
    Column { title, wide: true }
}

/// Something that is listed.
pub trait Row: Serialize {
    /// The columns.
    const COLUMNS: &'static [Column];
    /// What `-o name` prints.
    fn name(&self) -> String;
    /// A cell per column.
    fn cells(&self) -> Vec<String>;
}

/// Prints a list.
pub fn print_list<T: Row>(format: Format, items: &[T]) -> Result<(), Failure> {
    let text = match format {
        Format::Table => table(items, false),
        Format::Wide => table(items, true),
        Format::Name => items.iter().map(|item| escape(&item.name()) + "\n").collect(),
        Format::Json => json(&items)?,
        Format::Yaml => yaml(&items)?,
        Format::Jsonl => {
            let mut text = String::new();
            for item in items {
                text.push_str(&json_line(item)?);
            }
            text
        }
    };
    print(&text)
}

/// Prints one thing: for people as `details`, name and value.
pub fn print_one<T: Serialize>(
    format: Format,
    item: &T,
    name: &str,
    details: &[(&str, String)],
) -> Result<(), Failure> {
    let text = match format {
        Format::Table | Format::Wide => {
            let width = details.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
            details
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(title, value)| {
                    let value = escape(value).replace('\n', &format!("\n{:width$}  ", ""));
                    format!("{title:width$}  {value}\n")
                })
                .collect()
        }
        Format::Name => escape(name) + "\n",
        Format::Json => json(item)?,
        Format::Jsonl => json_line(item)?,
        Format::Yaml => yaml(item)?,
    };
    print(&text)
}

/// Prints text on stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

fn unwritable(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot write this format: {error}"))
}

/// Indented JSON.
pub fn json<T: Serialize>(item: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(item).map(|text| text + "\n").map_err(unwritable)
}

/// JSON on one line.
pub fn json_line<T: Serialize>(item: &T) -> Result<String, Failure> {
    serde_json::to_string(item).map(|text| text + "\n").map_err(unwritable)
}

/// YAML.
pub fn yaml<T: Serialize>(item: &T) -> Result<String, Failure> {
    serde_yaml_ng::to_string(item).map_err(unwritable)
}

fn table<T: Row>(items: &[T], all: bool) -> String {
    let shown = |column: &Column| all || !column.wide;
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(T::COLUMNS.iter().filter(|c| shown(c)).map(|column| column.title));
    for item in items {
        let cells = item.cells().into_iter().zip(T::COLUMNS);
        table.add_row(
            cells
                .filter(|(_, c)| shown(c))
                .map(|(cell, _)| escape(&cell).replace(['\n', '\t'], " ")),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Thing(&'static str, &'static str);

    impl Row for Thing {
        const COLUMNS: &'static [Column] = &[column("NAME"), wide("SECRET")];
        fn name(&self) -> String {
            self.0.to_owned()
        }
        fn cells(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_owned()]
        }
    }

    #[test]
    fn tables_are_aligned_plain_and_tame() {
        let things = [Thing("a\x1b[2J", "x"), Thing("longer-name", "y")];
        assert_eq!(table(&things, false), "NAME\na^[[2J\nlonger-name\n");
        assert_eq!(table(&things, true), "NAME         SECRET\na^[[2J       x\nlonger-name  y\n");
    }
}
