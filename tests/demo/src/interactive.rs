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
    screen.print_heading("Everything keeps running until Ctrl-C. In another terminal:")?;
    screen.print_line(&format!("  export PATH=\"{}:$PATH\"", commands.display()))?;
    screen.print_line("  acme send --to Bolt -m 'Hello **Bolt**' -a README.md --wait delivered")?;
    screen.print_line("  bolt inbox")?;
    screen.print_line("  bolt show MESSAGE")?;
    screen.print_line("  bolt files save MESSAGE --to /tmp --force")?;
    screen.print_line("  acme watch")?;
    let hint = screen.paint(
        Style::Secondary,
        "acme and bolt run `sealpost` with --data; Ctrl-C deletes everything.",
    );
    screen.print_line(&format!("\n  {hint}"))?;
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
