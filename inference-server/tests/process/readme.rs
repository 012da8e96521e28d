//! The README's examples: each `curl` of its `sh` blocks is run against the server that the README starts before it, and must be answered as it shows.

use std::process::Command;

use crate::support::{Server, path};

/// A line of an example, and the comment below it.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    command: String,
    answer: Option<String>,
}

/// The commands in the `sh` blocks of a text. Lines that end with a backslash go on; a line `# …` right below a command is its answer.
fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut is_inside = false;
    let mut goes_on = false;
    let mut is_below = false;
    for line in text.lines() {
        if line.starts_with("```") {
            (is_inside, goes_on, is_below) = (line == "```sh", false, false);
            continue;
        }
        if !is_inside {
            continue;
        }
        let (part, more) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match found.last_mut() {
            Some(last) if goes_on => last.command.push_str(part),
            Some(last) if is_below && line.starts_with("# ") => last.answer = Some(line[2..].to_owned()),
            _ if !line.is_empty() && !line.starts_with('#') => found.push(Example {
                command: part.to_owned(),
                answer: None,
            }),
            _ => {}
        }
        is_below = !line.is_empty() && !line.starts_with("# ");
        goes_on = more;
    }
    found
}

/// The README names files from the root of the repository.
fn start(arguments: &str) -> Server {
    let arguments = arguments.replace("inference-server/tests/", &format!("{}/", path("tests").display()));
    Server::start(&arguments.split_whitespace().collect::<Vec<_>>())
}

/// What the command prints; refused where the server's answer is an error.
fn ask(command: &str, server: &Server) -> String {
    let command = command
        .replace("curl -s ", "curl -s --fail-with-body ")
        .replace("localhost:8080", &server.http.to_string())
        .replace("localhost:8081", &server.admin.to_string());
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command}\n{text}");
    text.trim_end().to_owned()
}

#[test]
fn its_examples_are_answered_as_it_shows() {
    let readme = std::fs::read_to_string(path("README.md")).unwrap();
    let mut server = None;
    let (mut asked, mut compared) = (0, 0);
    for Example { command, answer } in examples(&readme) {
        if let Some(arguments) = command.strip_prefix("target/debug/inference-server serve ") {
            server = Some(start(arguments));
        } else if command.starts_with("curl ") {
            let text = ask(&command, server.as_ref().expect("a server is started first"));
            if let Some(answer) = answer {
                assert_eq!(text, answer, "{command}");
                compared += 1;
            }
            asked += 1;
        }
    }
    assert!(
        asked >= 9 && compared >= 5,
        "only {compared} of {asked} examples have answers"
    );
}

#[test]
fn examples_are_found() {
    let text = "```sh\none   # a remark\ntwo \\\n  more\n# {\"answer\":1}\n# and more\n\n# for itself\n```\n```json\nnone\n```\n```sh\nthree\n```\n";
    let example = |command: &str, answer: Option<&str>| Example {
        command: command.to_owned(),
        answer: answer.map(str::to_owned),
    };
    assert_eq!(
        examples(text),
        [
            example("one   # a remark", None),
            example("two   more", Some("{\"answer\":1}")),
            example("three", None),
        ]
    );
}
