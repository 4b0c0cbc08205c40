//! Keeps everything running after the scenario, for users who want to try the commands.

use crate::{
    environment::Environment,
    node::Node,
    roles::Role,
    scenario::Nodes,
    screen::{Screen, Style},
};
use sealpost_service::Shutdown;
use std::{ffi::OsStr, fs, path::Path};

/// Prints commands to try, and returns on Ctrl-C.
pub(crate) async fn run_until_interrupted(
    screen: &mut Screen,
    env: &Environment,
    nodes: &Nodes,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let commands = env.directory().join("bin");
    fs::create_dir(&commands)?;
    for node in [&nodes.acme, &nodes.bolt] {
        write_command(env, &commands, node)?;
    }
    screen.heading("Everything keeps running until Ctrl-C. In another terminal:")?;
    screen.line(&format!("  export PATH=\"{}:$PATH\"", commands.display()))?;
    screen.line("  acme send --to Bolt -m 'Hello **Bolt**' -a README.md --wait delivered")?;
    screen.line("  bolt inbox")?;
    screen.line("  bolt show MESSAGE")?;
    screen.line("  bolt files save MESSAGE --to /tmp --force")?;
    screen.line("  acme watch")?;
    let hint = screen.paint(
        Style::Dim,
        "acme and bolt run `sealpost` with --data; Ctrl-C deletes everything.",
    );
    screen.line(&format!("\n  {hint}"))?;
    shutdown.triggered().await;
    Ok(())
}

/// Writes a script with the node's name that runs `sealpost` on the node's data directory.
fn write_command(env: &Environment, commands: &Path, node: &Node) -> anyhow::Result<()> {
    let name = node.home().name().to_lowercase();
    let args = [OsStr::new("--data"), node.home().directory().as_os_str()];
    env.program()
        .write_script(&commands.join(name), Role::NodeCommand, &args)
}
