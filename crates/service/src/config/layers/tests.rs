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
    door: Door,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Door {
    /// Whether it is open
    #[arg(id = "door.open", action = ArgAction::Set, default_value_t = true)]
    open: bool,
    /// Who has a key
    #[arg(
        id = "door.keys",
        long = "key",
        env = "EXAMPLE_KEY",
        value_delimiter = ',',
        hide_env_values = true
    )]
    keys: Vec<String>,
    /// How many fit in
    #[arg(id = "door.people_max", default_value_t = 4)]
    people_max: u32,
}

impl Settings for Example {
    const PREFIX: &'static str = "EXAMPLE_TEST_";
}

#[derive(Debug, Parser)]
struct Cli {
    destination: Option<String>,
    #[command(flatten)]
    told: Told<Example>,
}

fn told(args: &[&str]) -> Told<Example> {
    let cli = Cli::try_parse_from(["example"].iter().chain(args)).unwrap();
    assert!(cli.destination.is_none());
    cli.told
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn shown(loaded: &Loaded<Example>) -> Vec<String> {
    let line = |setting: &Setting| {
        let value = setting
            .shown()
            .map_or("nothing".to_owned(), |value| value.to_string());
        format!("{} = {value} from {}", setting.key, setting.origin)
    };
    loaded.settings.iter().map(line).collect()
}

#[test]
fn who_says_nothing_gets_the_defaults() {
    let loaded = told(&[]).load().unwrap();
    let expected = [
        "port = 8440",
        "name = nothing",
        "door.open = true",
        "door.keys = []",
        "door.people_max = 4",
    ];
    assert_eq!(
        shown(&loaded),
        expected.map(|line| format!("{line} from default"))
    );
    assert_eq!(defaults::<Example>().unwrap().door.people_max, 4);
}

#[test]
fn flags_win_over_the_file_over_the_defaults_and_each_says_so() {
    let file = file("port = 1\nname = \"x\"\n\n[door]\npeople_max = 9\nopen = true\n");
    let path = file.path().to_str().unwrap();
    let loaded = told(&["--config", path, "--door-people-max", "7", "--key", "a,b"])
        .load()
        .unwrap();
    assert_eq!(
        shown(&loaded),
        [
            format!("port = 1 from {path}:1"),
            format!("name = \"x\" from {path}:2"),
            format!("door.open = true from {path}:6"),
            "door.keys = [\"********\", \"********\"] from flag --key".to_owned(),
            "door.people_max = 7 from flag --door-people-max".to_owned(),
        ]
    );
    assert_eq!(loaded.config.door.keys, ["a", "b"]);
}

#[test]
fn flags_and_variables_follow_from_the_key() {
    let named: Vec<_> = declared::<Example>()
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
        ("door-open", "EXAMPLE_TEST_DOOR_OPEN"),
        ("key", "EXAMPLE_KEY"),
        ("door-people-max", "EXAMPLE_TEST_DOOR_PEOPLE_MAX"),
    ];
    assert_eq!(
        named,
        expected.map(|(long, env)| (long.to_owned(), env.to_owned()))
    );
}

#[test]
fn a_file_that_does_not_fit_is_refused_with_its_line() {
    for (text, line, word) in [
        ("port = 1\nnaem = \"x\"\n", "line 2, column 1", "naem"),
        ("\n[door]\nopen = \"yes\"\n", "line 3, column 8", "boolean"),
        ("\ndoor = 5\n", "line 2, column 8", "Door"),
        ("[door]\nlock = 1\n", "line 2, column 1", "lock"),
        ("port = 99999\n", "line 1, column 8", "99999"),
        ("port = \n", "line 1", ""),
    ] {
        let file = file(text);
        let error = told(&["--config", file.path().to_str().unwrap()])
            .load()
            .unwrap_err()
            .to_string();
        assert!(error.contains(line) && error.contains(word), "{error}");
    }
    assert!(
        told(&["--config", "/nowhere/x.toml"])
            .load()
            .unwrap_err()
            .to_string()
            .contains("/nowhere")
    );
}

#[test]
fn the_file_is_read_anew_each_time() {
    let mut file = file("port = 1\n");
    let told = told(&["--config", file.path().to_str().unwrap()]);
    let before = told.load().unwrap();
    file.write_all(b"name = \"later\"\n[door]\nkeys = [\"c\"]\n")
        .unwrap();
    let after = told.load().unwrap();
    assert_eq!(after.config.name.as_deref(), Some("later"));
    assert_eq!(
        before.changed(&after).collect::<Vec<_>>(),
        ["name", "door.keys"],
        "a secret too"
    );
    assert!(!format!("{:?}", after.settings).contains("\"c\""));
}
