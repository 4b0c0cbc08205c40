use super::*;
use clap::Parser;
use serde::Deserialize;
use std::io::Write as _;

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// A port
    #[arg(id = "port", default_value_t = 8440)]
    port: u16,
    /// A name without a default
    #[arg(id = "name")]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[command(flatten)]
    listener: Listener,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listener {
    /// Whether it is enabled
    #[arg(id = "listener.enabled", action = ArgAction::Set, default_value_t = true)]
    enabled: bool,
    /// Tokens that are accepted
    #[arg(
        id = "listener.tokens",
        long = "token",
        env = "EXAMPLE_TEST_TOKEN",
        value_delimiter = ',',
        hide_env_values = true
    )]
    tokens: Vec<String>,
    /// Connections at a time
    #[arg(id = "listener.connections_max", default_value_t = 4)]
    connections_max: u32,
}

impl Settings for Example {
    const PREFIX: &'static str = "EXAMPLE_TEST_";
    const IGNORED_PREFIXES: &'static [&'static str] = &["EXAMPLE_TEST_OTHER_"];
    const OTHER_VARIABLES: &'static [&'static str] = &["EXAMPLE_TEST_SEED"];
}

#[derive(Debug, Parser)]
struct Cli {
    destination: Option<String>,
    #[command(flatten)]
    overrides: Overrides<Example>,
}

fn overrides(args: &[&str]) -> Overrides<Example> {
    let cli = Cli::try_parse_from(["example"].iter().chain(args)).unwrap();
    assert!(cli.destination.is_none());
    cli.overrides
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn lines(loaded: &LoadedConfig<Example>) -> Vec<String> {
    let line = |setting: &Setting| {
        let value = setting
            .display_value()
            .map_or("unset".to_owned(), |value| value.to_string());
        format!("{} = {value} from {}", setting.key, setting.source)
    };
    loaded.settings.iter().map(line).collect()
}

#[test]
fn defaults_apply_without_other_layers() {
    let loaded = overrides(&[]).load().unwrap();
    let expected = [
        "port = 8440",
        "name = unset",
        "listener.enabled = true",
        "listener.tokens = []",
        "listener.connections_max = 4",
    ];
    assert_eq!(
        lines(&loaded),
        expected.map(|line| format!("{line} from default"))
    );
    assert_eq!(
        load_defaults::<Example>().unwrap().listener.connections_max,
        4
    );
}

#[test]
fn higher_layers_take_precedence() {
    let file = file("port = 1\nname = \"x\"\n\n[listener]\nconnections_max = 9\nenabled = true\n");
    let path = file.path().to_str().unwrap();
    let loaded = overrides(&[
        "--config",
        path,
        "--listener-connections-max",
        "7",
        "--token",
        "a,b",
    ])
    .load()
    .unwrap();
    assert_eq!(
        lines(&loaded),
        [
            format!("port = 1 from {path}:1"),
            format!("name = \"x\" from {path}:2"),
            format!("listener.enabled = true from {path}:6"),
            "listener.tokens = [\"********\", \"********\"] from flag --token".to_owned(),
            "listener.connections_max = 7 from flag --listener-connections-max".to_owned(),
        ]
    );
    assert_eq!(loaded.config.listener.tokens, ["a", "b"]);
}

#[test]
fn names_follow_from_the_key() {
    let named: Vec<_> = setting_args::<Example>()
        .map(|arg| {
            (
                arg.get_long().unwrap().to_owned(),
                arg.get_env().unwrap().to_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [
        ("port", "EXAMPLE_TEST_PORT"),
        ("name", "EXAMPLE_TEST_NAME"),
        ("listener-enabled", "EXAMPLE_TEST_LISTENER_ENABLED"),
        ("token", "EXAMPLE_TEST_TOKEN"),
        (
            "listener-connections-max",
            "EXAMPLE_TEST_LISTENER_CONNECTIONS_MAX",
        ),
    ];
    assert_eq!(
        named,
        expected.map(|(long, env)| (long.to_owned(), env.to_owned()))
    );
}

#[test]
fn invalid_files_are_refused_with_their_line() {
    for (text, line, word) in [
        (
            "port = 1\nnaem = \"x\"\n",
            "line 2, column 1",
            "\"naem\" is not a setting (did you mean \"name\"?)",
        ),
        (
            "[listener]\nconections_max = 1\n",
            "line 2, column 1",
            "did you mean \"listener.connections_max\"?",
        ),
        (
            "[listner]\nenabled = true\n",
            "line 1, column 2",
            "did you mean \"listener\"?",
        ),
        (
            "\n[listener]\nenabled = \"yes\"\n",
            "line 3, column 11",
            "boolean",
        ),
        ("\nlistener = 5\n", "line 2, column 12", "Listener"),
        ("[listener]\nlock = 1\n", "line 2, column 1", "lock"),
        ("port = 99999\n", "line 1, column 8", "99999"),
        ("port = \n", "line 1", ""),
    ] {
        let file = file(text);
        let error = overrides(&["--config", file.path().to_str().unwrap()])
            .load()
            .unwrap_err()
            .to_string();
        assert!(error.contains(line) && error.contains(word), "{error}");
    }
    assert!(
        overrides(&["--config", "/nowhere/x.toml"])
            .load()
            .unwrap_err()
            .to_string()
            .contains("/nowhere")
    );
}

#[test]
fn unknown_variables_are_refused() {
    let find = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned());
        find_unknown_variable::<Example>(names)
    };
    let known = [
        "EXAMPLE_TEST_PORT",
        "EXAMPLE_TEST_TOKEN",
        "EXAMPLE_TEST_CONFIG",
        "EXAMPLE_TEST_SEED",
    ];
    assert_eq!(find(&known), None);
    assert_eq!(
        find(&["EXAMPLE_TEST_OTHER_LISTEN", "PATH", "EXAMPLE_PRT"]),
        None
    );
    let unknown = find(&["EXAMPLE_TEST_PORT", "EXAMPLE_TEST_PROT"]).unwrap();
    assert_eq!(unknown.name, "EXAMPLE_TEST_PROT");
    assert_eq!(unknown.nearest, "EXAMPLE_TEST_PORT");
    let mut overrides = overrides(&[]);
    overrides.unknown_variable = Some(unknown);
    let error = overrides.load().unwrap_err().to_string();
    assert!(
        error.contains("EXAMPLE_TEST_PROT is not a setting (did you mean EXAMPLE_TEST_PORT?)"),
        "{error}"
    );
}

#[test]
fn default_file_applies_only_if_none_is_named() {
    let (default, named) = (file("port = 1\n"), file("port = 2\n"));
    let missing = Path::new("/nowhere/x.toml");
    let port = |args: &[&str], default: &Path| {
        let loaded = overrides(args).load_or_default_file(default).unwrap();
        loaded.config.port
    };
    let named = ["--config", named.path().to_str().unwrap()];
    assert_eq!(port(&[], missing), 8440);
    assert_eq!(port(&[], default.path()), 1);
    assert_eq!(port(&named, default.path()), 2);
}

#[test]
fn each_load_reads_the_file_again() {
    let mut file = file("port = 1\n");
    let overrides = overrides(&["--config", file.path().to_str().unwrap()]);
    let before = overrides.load().unwrap();
    file.write_all(b"name = \"later\"\n[listener]\ntokens = [\"c\"]\n")
        .unwrap();
    let after = overrides.load().unwrap();
    assert_eq!(after.config.name.as_deref(), Some("later"));
    assert_eq!(
        before.changed_keys(&after).collect::<Vec<_>>(),
        ["name", "listener.tokens"],
        "secrets are compared, too"
    );
    assert!(!format!("{:?}", after.settings).contains("\"c\""));
}
