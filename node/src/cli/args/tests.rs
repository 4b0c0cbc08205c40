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
fn texts_can_start_with_a_hyphen() {
    let parse_command = |line: &[&str]| match parse(line).unwrap().command {
        Command::Api(command) => command,
        _ => panic!("{line:?}"),
    };
    for text in ["- nuts", "-5 %", "--- x", "-", "--", "--to", "-m"] {
        let line = [
            "send",
            "--to",
            "Bolt",
            "-m",
            text,
            "--client-id",
            text,
            "--json",
        ];
        let ApiCommand::Send(send) = parse_command(&line) else {
            panic!("{text}")
        };
        let texts = [send.message.as_deref(), send.client_id.as_deref()];
        assert_eq!((texts, send.to.len()), ([Some(text); 2], 1));
        let ApiCommand::Connect(connect) = parse_command(&["connect", "URL", "--note", text])
        else {
            panic!("{text}")
        };
        assert_eq!(connect.note.as_deref(), Some(text));
        let init = ["init", "--relay", "https://r.example", "--name", text];
        let Command::Init(init) = parse(&init).unwrap().command else {
            panic!("{text}")
        };
        assert_eq!(init.name, text);
    }
    let ApiCommand::Connections { command } =
        parse_command(&["connections", "verify", "-Bolt-", "--same", "--json"])
    else {
        panic!()
    };
    let Some(ConnectionsCommand::Verify(verify)) = command else {
        panic!()
    };
    assert_eq!((verify.id.as_str(), verify.same), ("-Bolt-", true));
}

#[test]
fn names_with_a_hyphen_follow_an_equals_sign() {
    let line = ["send", "--to=-Bolt", "--to", "Cargo", "--attach=-a.pdf"];
    let Command::Api(ApiCommand::Send(send)) = parse(&line).unwrap().command else {
        panic!()
    };
    assert_eq!(send.to, ["-Bolt", "Cargo"]);
    for (line, tip) in [
        (
            &["send", "-m", "hi", "--to", "-Bolt"][..],
            Some("--to=-Bolt"),
        ),
        (&["send", "--to", "-a", "-m", "hi"], Some("--to=-a")),
        (&["send", "--to", "Bolt", "-a", "-x.pdf"], Some("-a=-x.pdf")),
        (
            &["send", "--to", "Bolt", "--reply-to", "-x"],
            Some("--reply-to=-x"),
        ),
        (&["inbox", "--all", "-x"], None),
        (&["inbox", "--json", "--bogus"], None),
    ] {
        let error = parse(line).err().unwrap();
        let args = [&["sealpost"], line].concat();
        let args: Vec<_> = args.into_iter().map(Into::into).collect();
        let text = add_hyphen_tip(error, &args).to_string();
        let expected = tip.map(|tip| format!("follows an equals sign: {tip}\n"));
        match expected {
            Some(expected) => assert!(text.contains(&expected), "{text}"),
            None => assert!(!text.contains("equals sign"), "{text}"),
        }
    }
}

#[test]
fn every_loopback_address_can_be_chosen() {
    for address in [
        "127.0.0.1:4680",
        "127.0.0.2:4680",
        "[::1]:0",
        "[::ffff:127.0.0.9]:1",
    ] {
        let line = [
            "init",
            "--name",
            "A",
            "--relay",
            "https://r.example",
            "--listen",
            address,
        ];
        let Command::Init(init) = parse(&line).unwrap().command else {
            panic!("{address}")
        };
        assert_eq!(init.listen.to_string(), address);
    }
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

#[test]
fn url_errors_do_not_repeat_passwords() {
    let init = |relay: &str, webhook: &str| {
        parse(&[
            "init",
            "--name",
            "A",
            "--relay",
            relay,
            "--webhook-listen",
            "127.0.0.1:4690",
            "--webhook-url",
            webhook,
        ])
    };
    assert!(init("https://r.example", "https://node.example/sealpost").is_ok());
    for (relay, webhook, reason) in [
        (
            "https://r.example",
            "http://user:hunter2@node.example/",
            "user or a password",
        ),
        (
            "https://r.example",
            "ftp://user:hunter2@node.example/",
            "must start with https://",
        ),
        ("https://r.example", "https://user:hunter2@", "is not valid"),
        (
            "https://user:hunter2@r.example",
            "https://node.example/",
            "no path, query",
        ),
    ] {
        let error = init(relay, webhook).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains(reason) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn deceptive_names_are_refused() {
    let init = |name| {
        let parsed = parse(&["init", "--name", name, "--relay", "https://relay.example"]);
        parsed.map(|_| ()).map_err(|error| error.to_string())
    };
    for name in ["Bolt", " M\u{fc}ller GmbH "] {
        assert_eq!(init(name), Ok(()));
    }
    for (name, reason) in [
        ("\u{200b}", "hidden character U+200B"),
        ("Bolt\u{200b}", "hidden character U+200B"),
        ("Bolt\u{2800}", "hidden character U+2800"),
        ("\u{412}olt", "looks like another one"),
        ("\u{3164}", "the name is empty"),
        (&"x".repeat(65), "the limit is 64"),
    ] {
        assert!(
            init(name).is_err_and(|error| error.contains(reason)),
            "{name:?}"
        );
    }
}
