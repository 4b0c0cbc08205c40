//! After the story: everything stays up for whoever wants to try it.

use crate::{
    node::Node,
    roles::Role,
    screen::{Ink, Screen},
    story::Cast,
    world::World,
};
use sealpost_service::Shutdown;
use std::{ffi::OsStr, fs, path::Path};

/// Prints what to try, and returns on Ctrl-C.
pub(crate) async fn stay(
    screen: &mut Screen,
    world: &World,
    cast: &Cast,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let commands = world.folder().join("bin");
    fs::create_dir(&commands)?;
    for node in [&cast.acme, &cast.bolt] {
        write_command(world, &commands, node)?;
    }
    screen.heading("It all stays up until Ctrl-C. In another terminal:")?;
    screen.line(&format!("  export PATH=\"{}:$PATH\"", commands.display()))?;
    screen.line("  acme send --to Bolt -m 'Hello **Bolt**' -a README.md --wait delivered")?;
    screen.line("  bolt inbox")?;
    screen.line("  bolt show MESSAGE")?;
    screen.line("  bolt files save MESSAGE --to /tmp --force")?;
    screen.line("  acme watch")?;
    let what = screen.paint(
        Ink::Dim,
        "acme and bolt are `sealpost` with --data; everything goes away with Ctrl-C.",
    );
    screen.line(&format!("\n  {what}"))?;
    shutdown.triggered().await;
    Ok(())
}

/// `sealpost` for the data folder of one node, under the node's name.
fn write_command(world: &World, commands: &Path, node: &Node) -> anyhow::Result<()> {
    let name = node.home().name().to_lowercase();
    let args = [OsStr::new("--data"), node.home().folder().as_os_str()];
    world
        .program()
        .write_script(&commands.join(name), Role::NodeCommand, &args)
}
