use super::*;

fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["sealpost"], line].concat())
}

/// Parses the settings of `sealpost serve`.
pub fn parse_overrides(line: &[&str]) -> Overrides {
    let Command::Serve(serve) = parse(line).unwrap().command else {
        panic!("not `serve`")
    };
    serve.overrides
}

#[test]
fn clap_accepts_the_grammar() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn options_take_several_values() {
    let line = [
        "send", "--to", "Bolt", "Cargo", "--to", "Dock", "-m", "hi", "-a", "a.pdf", "b.png",
        "--json",
    ];
    let Command::Api(ApiCommand::Send(send)) = parse(&line).unwrap().command else {
        panic!()
    };
    assert_eq!((send.to.len(), send.attach.len()), (3, 2));
    assert_eq!(send.message.as_deref(), Some("hi"));
}

#[test]
fn list_is_the_default_subcommand() {
    for (line, lists) in [
        (vec!["connections"], true),
        (vec!["connections", "accept", "Bolt"], false),
    ] {
        let Command::Api(ApiCommand::Connections { command }) = parse(&line).unwrap().command
        else {
            panic!()
        };
        assert_eq!(command.is_none(), lists);
    }
}

#[test]
fn usage_errors_exit_with_2() {
    for line in [
        vec!["send", "-m", "hi"],
        vec!["send", "--to", "Bolt", "-m", "hi", "-t", "x"],
        vec!["send", "--to", "Bolt", "-m", "hi", "--timeout", "3s"],
        vec!["invite", "--contact", "--expires", "7d"],
        vec!["init", "--name", "A", "--relay", "relay.example"],
        vec![
            "init",
            "--name",
            "A",
            "--relay",
            "https://r.example",
            "--listen",
            "0.0.0.0:4680",
        ],
        vec![
            "init",
            "--name",
            "A",
            "--relay",
            "https://r.example",
            "--webhook-url",
            "https://a.example",
        ],
        vec!["inbox", "--limit", "501"],
    ] {
        assert_eq!(
            parse(&line).err().map(|error| error.exit_code()),
            Some(2),
            "{line:?}"
        );
    }
}
