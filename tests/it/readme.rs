//! The README's walk-through, executed line by line: what it promises is what
//! `meridian dev` answers.
//!
//! In its `console` blocks a line `$ make …` names a target, `$ curl …` is run by a
//! shell, and the lines below it must appear in the answer, in order; `...` stands
//! for anything.
//!
//! Of the other commands that documents show, the options are looked up in the help.

use std::process::Command;

use meridian_tests::tools;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::workspace;
use meridian_tests::world::isolated;

/// What our programs can be told to do.
const TASKS: [&str; 7] = ["run", "validate", "schema", "check", "dev", "demo", "app"];

/// One command and the lines it should print.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    answer: Vec<String>,
}

#[test]
fn the_walk_through_works() {
    isolated("readme", async |world| {
        let steps = steps(&read("README.md"));
        let curls = steps
            .iter()
            .filter(|step| step.command.starts_with("curl "));
        let curls: Vec<_> = curls.collect();
        assert!(!curls.is_empty(), "the README walks through nothing");
        let mut dev = world.spawn("meridian-dev", &tools::ours("meridian"), ["dev"]);
        for step in curls {
            wait::until(&step.command, PATIENCE, async || {
                dev.assert_running();
                let answer = run(&step.command);
                let missing = step.missing_from(&answer);
                missing.map_or(Ok(()), |line| {
                    Err(format!("no line {line:?} in:\n{answer}"))
                })
            })
            .await;
        }
    });
}

#[test]
fn every_make_target_of_the_readme_exists() {
    let makefile = read("Makefile");
    for step in steps(&read("README.md")) {
        let Some(target) = step.command.strip_prefix("make ") else {
            continue;
        };
        let target = target.split_whitespace().next().unwrap_or_default();
        assert!(
            makefile.contains(&format!("\n{target}:")),
            "no target {target}"
        );
    }
}

#[test]
fn the_programs_know_every_option_that_a_document_shows() {
    let mut seen = 0;
    for document in documents() {
        for command in commands(&read(&document)) {
            let mut words = command.split_whitespace();
            let (Some(program), Some(task)) = (words.next(), words.next()) else {
                continue;
            };
            let help = Command::new(tools::ours(program))
                .args([task, "--help"])
                .output()
                .expect("help");
            assert!(help.status.success(), "{document}: {command}");
            let help = String::from_utf8_lossy(&help.stdout);
            let known = |option: &str| {
                help.split(|c: char| c.is_whitespace() || "<>|[]".contains(c))
                    .any(|word| word == option)
            };
            for option in words.filter(|word| word.starts_with("--")) {
                assert!(known(option), "{document}: {option} of {command}");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen} options");
}

#[test]
fn commands_are_found_in_blocks_and_in_sentences() {
    let text = "Say `meshd run --sidecar-for web`, or\n```sh\n$ gateway validate F  # --why\n\
                gateways run\n```\n";
    let found: Vec<_> = commands(text).collect();
    assert_eq!(found, ["meshd run --sidecar-for web", "gateway validate F"]);
}

#[test]
fn a_walk_through_is_read_as_steps() {
    let text = "x\n```console\n$ make run\n$ curl -s a\none\n...\ntwo\n```\n$ not here\n";
    let step = |command: &str, answer: &[&str]| Step {
        command: command.to_owned(),
        answer: answer.iter().map(ToString::to_string).collect(),
    };
    let steps = steps(text);
    assert_eq!(
        steps,
        [
            step("make run", &[]),
            step("curl -s a", &["one", "...", "two"])
        ]
    );
    assert_eq!(steps[1].missing_from("one\nbetween\ntwo\n"), None);
    assert_eq!(steps[1].missing_from("two\none\n"), Some("two"));
}

impl Step {
    /// The first promised line that does not follow the ones before it.
    fn missing_from(&self, answer: &str) -> Option<&str> {
        let mut lines = answer.lines();
        let promised = self.answer.iter().filter(|line| *line != "...");
        let mut promised = promised.map(String::as_str);
        promised.find(|wanted| !lines.any(|line| line.contains(wanted.trim())))
    }
}

fn steps(text: &str) -> Vec<Step> {
    let blocks = text.split("```console\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        if let Some(command) = line.strip_prefix("$ ") {
            let command = command.to_owned();
            steps.push(Step {
                command,
                answer: Vec::new(),
            });
        } else if let Some(step) = steps.last_mut().filter(|_| !line.trim().is_empty()) {
            step.answer.push(line.to_owned());
        }
    }
    steps
}

/// README.md and those beside each other in docs/.
fn documents() -> Vec<String> {
    let folder = std::fs::read_dir(workspace::root().join("docs")).expect("docs/");
    let names = folder.map(|entry| entry.expect("a document").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let pages = names.filter(|name| name.ends_with(".md"));
    std::iter::once("README.md".to_owned())
        .chain(pages.map(|name| format!("docs/{name}")))
        .collect()
}

/// What a document has our programs do: lines of blocks, and what stands in code marks.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let pieces = text.lines().flat_map(|line| line.split('`'));
    let pieces = pieces.map(|piece| piece.trim_start_matches("$ "));
    let pieces = pieces.map(|piece| piece.split(" #").next().unwrap_or_default().trim_end());
    pieces.filter(|piece| {
        let mut words = piece.split_whitespace();
        let program = words.next().unwrap_or_default();
        ["gateway", "meshd", "meridian"].contains(&program)
            && words.next().is_some_and(|task| TASKS.contains(&task))
    })
}

fn run(command: &str) -> String {
    let output = Command::new("bash").args(["-c", command]).output();
    let output = output.expect("a shell");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn read(path: &str) -> String {
    let path = workspace::root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
