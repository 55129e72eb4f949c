//! Completions and man pages follow the command lines, and test names the list of requirements.
//!
//! Completions and man pages are generated from the definitions of the command lines and compared
//! with the committed files. `PF_REWRITE=1 cargo test drift` writes these files again. The prose of
//! a man page is in `man/sections/PROGRAM.roff`; the options replace its line `.\" OPTIONS`.

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

/// The command as it is typed. Completions of a program with verbs need the name by which it is
/// called.
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

/// The script for bash gives a verb's state two names where the program's own name has a hyphen
/// (clap_complete 4.6), so that no option of a verb completes. Here it gets one. The script for zsh
/// lets the operands at the end take all that follows, options too; one colon less does not.
fn mended(program: &str, script: &str) -> String {
    let wrong = program.replace('-', "__subcmd__") + "__subcmd__";
    let right = program.replace('-', "__") + "__subcmd__";
    script
        .replace(&wrong, &right)
        .lines()
        .map(|line| match line.strip_prefix("'*::") {
            Some(operands) => format!("'*:{operands}\n"),
            None => format!("{line}\n"),
        })
        .collect()
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
            let script = mended(program, &script);
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
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {name} 1 \"\" \"pf\\-tools {version}\" \
         \"pf\\-tools\"\n"
    ) + &section(|out| Man::new(command.clone()).render_name_section(out))
}

fn options(command: &clap::Command) -> String {
    section(|out| Man::new(command.clone()).render_options_section(out))
}

/// What each verb does and which options it takes; options that all verbs share come first, once.
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

/// A rendered section without its repeated preamble; a paragraph's end within an option's text
/// stays in that option.
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
fn man_pages_name_only_existing_options() {
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
fn option_names_are_found_in_text() {
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

/// The tags at the start of a test name, as the requirements write them: `u8_r59_...` has U8, R59.
fn tags(name: &str) -> impl Iterator<Item = String> {
    let is_tag = |part: &&str| {
        let rest = part.strip_prefix(|first: char| first.is_ascii_lowercase());
        rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()))
    };
    name.split('_').take_while(is_tag).map(str::to_uppercase)
}

/// The names of the functions that follow `#[test]`.
fn test_names(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        is_test |= line == "#[test]";
        if let Some(rest) = line.strip_prefix("fn ")
            && std::mem::take(&mut is_test)
        {
            names.extend(rest.split(['(', '<']).next());
        }
    }
    names
}

fn rust_files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_tag_of_a_test_name_is_a_requirement() {
    let text = read("tests/REQUIREMENTS.md");
    let listed = text
        .lines()
        .filter_map(|line| Some(line.strip_prefix("- ")?.split_once(": ")?.0));
    let listed: Vec<&str> = listed.collect();
    let unique: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(unique.len(), listed.len(), "a number stands there twice");
    let mut files = Vec::new();
    for directory in ["src", "crates", "tests"] {
        rust_files(&at(directory), &mut files);
    }
    let mut seen = 0;
    let mut unknown = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("UTF-8");
        for name in test_names(&source) {
            for tag in tags(name) {
                seen += 1;
                if !unique.contains(tag.as_str()) {
                    unknown.push(format!("{}: {name}: {tag}", file.display()));
                }
            }
        }
    }
    assert!(seen > 0, "no test name has a tag");
    assert!(
        unknown.is_empty(),
        "not in tests/REQUIREMENTS.md: {unknown:#?}"
    );
}

#[test]
fn tags_of_test_names_are_found() {
    let source =
        "#[test]\nfn u8_r59_a_burst() {}\n    #[test]\n#[ignore]\nfn g1() {}\nfn u1_no() {}";
    assert_eq!(test_names(source), ["u8_r59_a_burst", "g1"]);
    let found: Vec<String> = tags("u8_r59_a_burst_u9_later").collect();
    assert_eq!(found, ["U8", "R59"]);
    assert_eq!(tags("a_b2_c").count(), 0);
}
