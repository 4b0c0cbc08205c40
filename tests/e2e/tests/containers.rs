//! The container images and `compose.yaml`, as far as they can be checked without a container
//! engine: their programs, flags, variables, ports and volumes. The commands of the README run with
//! a script that starts the programs of this machine instead of containers.

use crate::{
    architecture::sources::workspace_root,
    support::{
        program,
        shell::{PortMap, STDERR_LOG, Shell, code_blocks},
    },
};
use anyhow::{Context as _, bail, ensure};
use sealpost_demo::{process::log_tail, roles::Role};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

const README: &str = include_str!("../../../README.md");
const COMPOSE: &str = include_str!("../../../relay/packaging/compose.yaml");
/// Directory of `compose.yaml` below the workspace.
const COMPOSE_DIRECTORY: &str = "relay/packaging";
const RELAY_IMAGE: &str = include_str!("../../../relay/packaging/Containerfile");
const NODE_IMAGE: &str = include_str!("../../../node/packaging/Containerfile");

/// YAML document without anchors, flow collections and texts of several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Yaml {
    Map(BTreeMap<String, Self>),
    List(Vec<String>),
    Text(String),
}

impl Yaml {
    fn parse(document: &str) -> anyhow::Result<Self> {
        let lines: Vec<_> = document
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
            .collect();
        Self::parse_lines(&lines)
    }

    fn parse_lines(lines: &[&str]) -> anyhow::Result<Self> {
        let Some(first) = lines.first() else {
            return Ok(Self::Text(String::new()));
        };
        let indent = first.len() - first.trim_start().len();
        if first.trim_start().starts_with("- ") {
            let items = lines.iter().map(|line| {
                let item = line
                    .trim_start()
                    .strip_prefix("- ")
                    .context("not an item")?;
                Ok(item.trim_matches('"').to_owned())
            });
            return Ok(Self::List(items.collect::<anyhow::Result<_>>()?));
        }
        let (mut map, mut rest) = (BTreeMap::new(), lines);
        while let Some((line, after)) = rest.split_first() {
            let (key, value) = line
                .trim()
                .split_once(':')
                .with_context(|| (*line).to_owned())?;
            let is_inner = |line: &&&str| line.len() - line.trim_start().len() > indent;
            let inner = after.iter().take_while(is_inner).count();
            let value = match value.trim() {
                "" => Self::parse_lines(&after[..inner])?,
                text if inner == 0 => Self::Text(text.trim_matches('"').to_owned()),
                _ => bail!("a value with inner lines: {line}"),
            };
            map.insert(key.to_owned(), value);
            rest = &after[inner..];
        }
        Ok(Self::Map(map))
    }

    fn map(&self) -> anyhow::Result<&BTreeMap<String, Self>> {
        match self {
            Self::Map(map) => Ok(map),
            other => bail!("not a map: {other:?}"),
        }
    }

    fn get(&self, key: &str) -> anyhow::Result<&Self> {
        self.map()?.get(key).with_context(|| format!("no {key}"))
    }

    fn text(&self, key: &str) -> anyhow::Result<&str> {
        match self.get(key)? {
            Self::Text(text) => Ok(text),
            other => bail!("{key} is no text: {other:?}"),
        }
    }

    fn list(&self, key: &str) -> anyhow::Result<&[String]> {
        match self.get(key)? {
            Self::List(items) => Ok(items),
            other => bail!("{key} is no list: {other:?}"),
        }
    }
}

/// Instructions of the last stage of a Containerfile.
struct Image {
    instructions: Vec<(String, String)>,
}

impl Image {
    fn parse(containerfile: &str) -> anyhow::Result<Self> {
        let lines = containerfile.replace("\\\n", " ");
        let lines = lines.lines().filter(|line| !line.starts_with('#'));
        let instructions = lines.filter_map(|line| line.split_once(' '));
        let instructions: Vec<_> = instructions
            .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
            .collect();
        let stages = instructions.iter().filter(|(name, _)| name == "FROM");
        ensure!(
            stages.count() == 2,
            "one stage builds, the other is the image"
        );
        let last = instructions.iter().rposition(|(name, _)| name == "FROM");
        Ok(Self {
            instructions: instructions[last.context("no stage")?..].to_vec(),
        })
    }

    fn values(&self, instruction: &str) -> Vec<&str> {
        let found = self.instructions.iter();
        found
            .filter(|(name, _)| name == instruction)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn value(&self, instruction: &str) -> anyhow::Result<&str> {
        match self.values(instruction)[..] {
            [one] => Ok(one),
            ref other => bail!("{instruction}: {other:?}"),
        }
    }

    fn variables(&self) -> BTreeMap<&str, &str> {
        let values = self.values("ENV").into_iter();
        values
            .flat_map(str::split_whitespace)
            .filter_map(|pair| pair.split_once('='))
            .collect()
    }

    /// Returns the arguments of an instruction in JSON.
    fn arguments(&self, instruction: &str) -> anyhow::Result<Vec<String>> {
        let value = self.value(instruction)?;
        let json = &value[value.find('[').context("not in JSON")?..];
        Ok(serde_json::from_str(json)?)
    }
}

/// Runs a program with the variables of its image and returns its exit code and its output.
async fn run_in_image(
    image: &Image,
    data: &Path,
    role: Role,
    args: &[String],
) -> anyhow::Result<(Option<i32>, String)> {
    let variables = image.variables().into_iter();
    let program = variables.fold(program(), |program, (name, value)| {
        let value = value.replace("/data", &data.to_string_lossy());
        program.with_variable(name, value)
    });
    let args: Vec<_> = args.iter().map(OsStr::new).collect();
    let output = program.output(role, &args).await?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[tokio::test]
async fn images_run_any_subcommand() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    for (containerfile, role, name) in [
        (RELAY_IMAGE, Role::RelayCommand, "sealpost-relay"),
        (NODE_IMAGE, Role::NodeCommand, "sealpost"),
    ] {
        let image = Image::parse(containerfile)?;
        let binary = format!("/usr/bin/{name}");
        ensure!(image.arguments("ENTRYPOINT")?.join(" ") == binary);
        ensure!(image.arguments("CMD")? == ["serve"]);
        let copied = image.values("COPY");
        let copy = format!("/src/target/release/{name} {binary}");
        ensure!(
            copied.iter().any(|line| line.ends_with(&copy)),
            "{copied:?}"
        );
        let volume = image.value("VOLUME")?;
        let is_in_volume = |(name, value): (&&str, &&str)| {
            name.ends_with("_DATA") && value.strip_prefix(volume).is_some()
        };
        ensure!(
            image.variables().iter().any(is_in_volume),
            "no data in {volume}"
        );

        let check = image.arguments("HEALTHCHECK")?;
        let (command, args) = check.split_first().context("no command")?;
        ensure!(*command == binary);
        // Exit code 2 would mean wrong usage.
        let (code, text) = run_in_image(&image, data.path(), role, args).await?;
        ensure!(
            code.is_some_and(|code| code != 0 && code != 2),
            "{code:?}: {text}"
        );
        let show = ["config".to_owned(), "show".to_owned()];
        let (code, text) = run_in_image(&image, data.path(), role, &show).await?;
        ensure!(code == Some(0), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn compose_file_fits_images_and_programs() -> anyhow::Result<()> {
    let compose = Yaml::parse(COMPOSE)?;
    let volumes = compose.get("volumes")?.map()?;
    let directory = tempfile::tempdir()?;
    let mut built = Vec::new();
    for (name, service) in compose.get("services")?.map()? {
        let (text, role) = match service.text("image")? {
            "sealpost-relay" => (RELAY_IMAGE, Role::RelayCommand),
            "sealpost" => (NODE_IMAGE, Role::NodeCommand),
            other => bail!("{name} has an unknown image {other}"),
        };
        let image = Image::parse(text)?;
        if let Ok(build) = service.get("build") {
            let context = workspace_root()
                .join(COMPOSE_DIRECTORY)
                .join(build.text("context")?);
            let file = fs::read_to_string(context.join(build.text("dockerfile")?))?;
            ensure!(file == text, "{name} builds another image");
            built.push(service.text("image")?);
        }
        for volume in service.list("volumes")? {
            let (volume, path) = volume.split_once(':').context("no path")?;
            ensure!(volumes.contains_key(volume), "{volume} is not declared");
            ensure!(path == image.value("VOLUME")?, "{name}: {path}");
        }
        for port in service.list("ports").unwrap_or_default() {
            let port = port.rsplit(':').next().unwrap_or_default();
            ensure!(port == image.value("EXPOSE")?, "{name}: {port}");
            let listen = image.variables()["SEALPOST_RELAY_LISTEN"];
            ensure!(listen.ends_with(&format!(":{port}")), "{listen}");
        }
        let command = service.list("command").unwrap_or_default();
        if let [subcommand, flags @ ..] = command {
            ensure!(subcommand == "serve");
            // Reads the same flags as `serve`.
            let args: Vec<_> = ["config", "show"].map(str::to_owned).into();
            let args = [args, flags.to_vec()].concat();
            let (code, text) = run_in_image(&image, directory.path(), role, &args).await?;
            ensure!(code == Some(0), "{name}: {text}");
        }
    }
    built.sort_unstable();
    ensure!(
        built == ["sealpost", "sealpost-relay"],
        "each image is built once: {built:?}"
    );
    Ok(())
}

/// Script that starts processes of this machine instead of containers.
fn fake_docker(compose: &Yaml) -> anyhow::Result<String> {
    let services = compose.get("services")?;
    let serve = services.get("relay")?.list("command")?.join(" ");
    Ok(format!(
        r#"#!/bin/sh
set -e
[ "$1" = compose ] && [ -e "$WORKSPACE/$COMPOSE_FILE" ]
command=$2
shift 2
for option in -d --build --rm -T; do if [ "$1" = "$option" ]; then shift; fi; done
start() {{
    [ ! -e "$HOME/$1.started" ] || return 0
    touch "$HOME/$1.started"
    case $1 in
    relay) SEALPOST_RELAY_DATA=$HOME/relay/data SEALPOST_RELAY_LISTEN=127.0.0.1:8440 sealpost-relay {serve} >"$HOME/relay.log" 2>&1 & ;;
    *) SEALPOST_DATA=$HOME/$1/data sealpost serve >"$HOME/$1.log" 2>&1 & ;;
    esac
}}
case $command in
up) if [ $# -gt 0 ]; then start "$1"; else start relay; start acme; start bolt; fi ;;
run | exec)
    export SEALPOST_DATA=$HOME/$1/data
    listen="--listen 127.0.0.1:4680"
    if [ "$1" = bolt ]; then listen="--listen 127.0.0.1:4681"; fi
    shift
    if [ "$1" = sealpost ]; then shift; fi
    if [ "$1" != init ]; then
        listen=
        until sealpost status >/dev/null 2>&1; do sleep 0.05; done
    fi
    if [ "$1" = send ]; then until sealpost connections | grep -q accepted; do sleep 0.05; done; fi
    sealpost "$@" $listen
    ;;
*) exit 2 ;;
esac
"#
    ))
}

#[tokio::test]
async fn readme_exchange_in_containers_works() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    exchange(home.path())
        .await
        .with_context(|| log_tail(&home.path().join(STDERR_LOG)))
}

async fn exchange(home: &Path) -> anyhow::Result<()> {
    let (bin, ports) = (
        home.join("bin"),
        PortMap::reserve(["8440", "4680", "4681"])?,
    );
    fs::create_dir(&bin)?;
    for service in ["relay", "acme", "bolt"] {
        fs::create_dir(home.join(service))?;
    }
    program().write_script(&bin.join("sealpost"), Role::NodeCommand, &[])?;
    program().write_script(&bin.join("sealpost-relay"), Role::RelayCommand, &[])?;
    let adapt = |text: &str| ports.replace_in(&text.replace("http://relay:", "http://127.0.0.1:"));
    let compose = Yaml::parse(COMPOSE)?;
    let docker: PathBuf = bin.join("docker");
    fs::write(&docker, adapt(&fake_docker(&compose)?))?;
    let blocks = code_blocks(README);
    let block = blocks
        .iter()
        .find(|block| block.text.contains("docker compose"))
        .context("the README has no commands for containers")?;
    let mut shell = Shell::start(home).await?;
    let workspace = workspace_root().canonicalize()?;
    shell
        .run(&format!(
            "chmod 755 bin/docker; export WORKSPACE='{}'",
            workspace.display()
        ))
        .await?;
    let printed = shell.run(&adapt(&block.text)).await?;
    ensure!(
        printed.contains("delivered") && printed.contains("Order 4711"),
        "{printed}"
    );
    Ok(())
}
