//! Completions and man pages say what the command lines say.
//!
//! They are made from the definitions and compared with what is committed; `PF_REWRITE=1 cargo test drift` writes them anew.
//! The prose of a man page stands in `man/sections/PROGRAM.roff`; its line `.\" OPTIONS` is where the options go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap_complete::Shell;
use clap_mangen::Man;

use crate::common::support::skip;

type Definition = fn() -> clap::Command;

/// Every program, and where its command line is defined.
const PROGRAMS: &[(&str, Definition)] = &[
    ("pf-listen", prefork::cmd::listen::command),
    ("pf-master", prefork::cmd::master::command),
    ("pf-accept", prefork::cmd::accept::command),
    ("pf-ctl", prefork::cmd::ctl::command),
    ("pf-status", prefork::cmd::status::command),
];

const OPTIONS_GO_HERE: &str = ".\\\" OPTIONS\n";

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The command as it is typed. Completions of a program that nests verbs need the name that it is called by.
fn built(program: &str, command: Definition) -> clap::Command {
    let mut command = command().bin_name(program);
    command.build();
    command
}

#[track_caller]
fn same(path: &str, generated: &str) {
    if std::env::var_os("PF_REWRITE").is_some() {
        fs::write(at(path), generated).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let committed = fs::read_to_string(at(path)).unwrap_or_default();
    let line = committed
        .lines()
        .zip(generated.lines())
        .position(|(old, new)| old != new);
    assert!(
        committed == generated,
        "{path} is out of date at line {line:?}; PF_REWRITE=1 cargo test drift writes it anew"
    );
}

#[test]
fn completions_are_those_of_the_command_lines() {
    for (program, command) in PROGRAMS {
        for (shell, file) in [
            (Shell::Bash, format!("{program}.bash")),
            (Shell::Zsh, format!("_{program}")),
            (Shell::Fish, format!("{program}.fish")),
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), *program, &mut script);
            let script = String::from_utf8(script).expect("UTF-8");
            // Some lines of the generated scripts end in blanks.
            let tidy: String = script
                .lines()
                .map(|line| line.trim_end().to_owned() + "\n")
                .collect();
            same(&format!("completions/{file}"), &tidy);
        }
    }
}

#[test]
fn man_pages_are_those_of_the_command_lines() {
    for (program, command) in PROGRAMS {
        let prose = read(&format!("man/sections/{program}.roff"));
        let (before, after) = prose
            .split_once(OPTIONS_GO_HERE)
            .expect("a place for the options");
        let command = built(program, *command);
        let page = [
            title(&command),
            before.to_owned(),
            options(&command),
            verbs(&command),
            after.to_owned(),
        ]
        .concat();
        same(&format!("man/{program}.1"), &page);
    }
}

fn title(command: &clap::Command) -> String {
    let (name, version) = (
        escaped(command.get_name()),
        command.get_version().unwrap_or_default(),
    );
    // The preamble of all that is rendered by clap: an apostrophe that stays one.
    format!(
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {name} 1 \"\" \"pf\\-tools {version}\" \"pf\\-tools\"\n"
    ) + &section(|out| Man::new(command.clone()).render_name_section(out))
}

fn options(command: &clap::Command) -> String {
    section(|out| Man::new(command.clone()).render_options_section(out))
}

/// What each verb does and takes; the options that all of them take come first, once.
fn verbs(command: &clap::Command) -> String {
    let verbs: Vec<_> = command
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
        .collect();
    let mut names = verbs.iter().map(|verb| ids(verb));
    let Some(first) = names.next() else {
        return String::new();
    };
    let common = names.fold(first, |common, other| {
        common.intersection(&other).cloned().collect()
    });
    let mut text = String::from(".SH VERBS\nAll of them take\n");
    if let Some(verb) = verbs.first() {
        text += &options_where(verb, |id| common.contains(id));
    }
    for verb in verbs {
        text += &format!(".SS {}\n", escaped(verb.get_name()));
        let about = verb
            .get_long_about()
            .or_else(|| verb.get_about())
            .map(ToString::to_string)
            .unwrap_or_default();
        text += &about
            .split("\n\n")
            .map(escaped)
            .collect::<Vec<_>>()
            .join("\n.PP\n");
        text += "\n";
        text += &options_where(verb, |id| !common.contains(id));
    }
    text
}

fn ids(command: &clap::Command) -> BTreeSet<String> {
    command
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .collect()
}

/// The options of a verb that are chosen, without a heading.
fn options_where(verb: &clap::Command, chosen: impl Fn(&str) -> bool) -> String {
    let help = |id: &str| id == "help" || id == "version";
    let shown = verb.clone().mut_args(|arg| {
        let hide =
            arg.is_hide_set() || help(arg.get_id().as_str()) || !chosen(arg.get_id().as_str());
        arg.hide(hide)
    });
    let text = options(&shown);
    text.strip_prefix(".SH OPTIONS\n")
        .unwrap_or(&text)
        .to_owned()
}

/// A section as it is rendered, without the preamble that each one repeats; and a paragraph's end within an option's text
/// stays within that option.
fn section(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    render(&mut out).expect("memory");
    let text = String::from_utf8(out).expect("UTF-8");
    let lines = text
        .lines()
        .filter(|line| !line.starts_with(".ie \\n(.g") && !line.starts_with(".el .ds Aq"));
    lines
        .map(|line| {
            if line.is_empty() {
                ".IP\n".to_owned()
            } else {
                line.to_owned() + "\n"
            }
        })
        .collect()
}

fn escaped(text: impl AsRef<str>) -> String {
    text.as_ref()
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
}

/// Every long option of these tools, verbs included.
fn long_options() -> BTreeSet<String> {
    fn collect(command: &clap::Command, into: &mut BTreeSet<String>) {
        into.extend(
            command
                .get_arguments()
                .filter_map(|arg| arg.get_long())
                .map(str::to_owned),
        );
        command
            .get_subcommands()
            .for_each(|verb| collect(verb, into));
    }
    let mut all = BTreeSet::new();
    PROGRAMS
        .iter()
        .for_each(|(program, command)| collect(&built(program, *command), &mut all));
    all
}

#[test]
fn the_prose_names_no_option_that_is_not_there() {
    let known = long_options();
    let mut pages: Vec<String> = PROGRAMS
        .iter()
        .map(|(program, _)| format!("man/sections/{program}.roff"))
        .collect();
    // What this page shares is shared by all.
    if PROGRAMS.len() == 5 {
        pages.push("man/pf-tools.7".into());
    }
    let unknown: Vec<String> = pages
        .iter()
        .flat_map(|page| {
            let text = read(page).replace("\\-", "-");
            named_options(&text)
                .filter(|option| !known.contains(option))
                .map(|option| format!("{page}: --{option}"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The long options that a text names.
fn named_options(text: &str) -> impl Iterator<Item = String> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split("--").skip(1).filter_map(move |rest| {
        let name: String = rest.chars().take_while(|c| part(*c)).collect();
        name.starts_with(|c: char| c.is_ascii_lowercase())
            .then_some(name)
    })
}

#[test]
fn named_options_are_found() {
    let names: Vec<_> =
        named_options("pf-ctl stop --timeout 30s -- x --ready fd=N\n.BR --json ,").collect();
    assert_eq!(names, ["timeout", "ready", "json"]);
}

#[test]
fn man_pages_are_sound_roff() {
    let pages = PROGRAMS
        .iter()
        .map(|(program, _)| format!("man/{program}.1"))
        .chain(["man/pf-tools.7".into()]);
    for page in pages {
        let groff = Command::new("groff")
            .args(["-t", "-man", "-wall", "-Tutf8"])
            .arg(at(&page))
            .stdout(Stdio::null())
            .output();
        match groff {
            Ok(output) => assert!(
                output.status.success() && output.stderr.is_empty(),
                "{page}: {output:?}"
            ),
            Err(error) => return skip(&format!("no groff: {error}")),
        }
    }
}
