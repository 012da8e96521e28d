//! The command line of `tidewright-box`.
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::binaries::{Binaries, KUBERNETES_VERSION};
use crate::clock::Stopwatch;
use crate::cluster::Cluster;
use crate::console::{progress, result};
use crate::control_plane::ControlPlane;
use crate::models::Models;
use crate::options::{ClusterOptions, HpaTiming, Tier};
use crate::sandbox::Sandbox;
use crate::supervisor::Request;
use crate::{images, init, keeper, packages, paths, registry};

/// A real Kubernetes on this machine: etcd, API server, controllers and, in the tier `cluster`, a node that runs containers.
/// It needs root and Linux, no Docker and no image registry. Everything ends with `down`, Ctrl-C, or the death of `up`.
#[derive(Debug, Parser)]
#[command(name = "tidewright-box", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a box and hold it until Ctrl-C. The first time builds Kubernetes from source: about 13 minutes on two cores
    Up {
        #[command(flatten)]
        which: Name,
        /// How much of a cluster
        #[arg(long, value_enum, default_value = "cluster")]
        tier: Tier,
        /// Return when it is ready and leave it up; `tidewright-box down` ends it
        #[arg(long)]
        detach: bool,
        /// Images to have on the node: redis, prometheus, operator, inference-server (separated by commas)
        #[arg(long, value_delimiter = ',')]
        images: Vec<String>,
        /// Resource metrics every 10 s instead of 15 s, and a pod autoscaler that looks every 2 s and forgets after 15 s, instead of 15 s and 5 min
        #[arg(long)]
        fast_hpa: bool,
        /// Nodes of KWOK, on which pods count as running and nothing runs; with the tier control-plane
        #[arg(long, default_value_t = 0)]
        fake_nodes: u32,
        /// Further argument of one of the programs, such as kube-apiserver=--v=4 (may be repeated)
        #[arg(long = "argument", value_name = "PROGRAM=ARGUMENT")]
        arguments: Vec<String>,
    },
    /// Take a box down, and wait until nothing of it is left
    Down {
        #[command(flatten)]
        which: Name,
        /// All boxes, also the leftovers of killed ones
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Show the boxes that are up and the programs in them
    Status,
    /// Run kubectl as administrator: `tidewright-box kubectl -- get pods -A`
    Kubectl {
        #[command(flatten)]
        which: Name,
        /// Arguments of kubectl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Open a shell inside the box, or run a command there
    Shell {
        #[command(flatten)]
        which: Name,
        /// A command and its arguments; a login shell without
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Print the log of one of the programs; without a name: which there are
    Logs {
        #[command(flatten)]
        which: Name,
        /// kube-apiserver, etcd, kubelet, …
        component: Option<String>,
        /// Go on as it grows
        #[arg(short, long)]
        follow: bool,
    },
    /// Do one thing to a program of the box: a fault, or its repair
    Program {
        #[command(flatten)]
        which: Name,
        /// What to do
        #[arg(value_enum)]
        action: Action,
        /// kube-apiserver, etcd, kubelet, …
        component: String,
    },
    /// Build the images of the project and of its tests, and put them on the node of a box that is up
    Images {
        #[command(flatten)]
        which: Name,
        /// Only these: pause, redis, prometheus, operator, inference-server
        only: Vec<String>,
    },
    /// Build everything a box needs, ahead of time
    Fetch,
    /// Print the completion script of a shell
    Completion { shell: clap_complete::Shell },
    #[command(hide = true)]
    Keeper { name: String },
    #[command(hide = true)]
    Enter { settings: String },
    #[command(hide = true)]
    Inside { settings: String },
}

#[derive(Debug, clap::Args)]
struct Name {
    /// Name of the box
    #[arg(long, env = "TIDEWRIGHT_BOX", default_value = "default")]
    name: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Action {
    /// Start again after a stop or a kill
    Start,
    /// SIGTERM
    Stop,
    /// SIGKILL
    Kill,
    /// SIGSTOP: it hangs
    Freeze,
    /// SIGCONT
    Thaw,
}

/// Parses the command line and does it.
pub fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            progress(format_args!("tidewright-box: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        // These three become or keep a box: no threads, no runtime before they have done so.
        Verb::Keeper { name } => keeper::run(&name)?,
        Verb::Enter { settings } => return init::enter(&settings),
        Verb::Inside { settings } => init::run(&settings)?,
        Verb::Up {
            which,
            tier,
            detach,
            fast_hpa,
            images: wanted,
            fake_nodes,
            arguments,
        } => {
            let mut options = ClusterOptions::named(which.name);
            options.fake_nodes = fake_nodes;
            if !wanted.is_empty() {
                packages::ensure(&[packages::IMAGES])?;
                options.images = images::named(&wanted)?;
            }
            if fast_hpa {
                options.hpa = HpaTiming::fast();
                options.metric_resolution = Duration::from_secs(10);
            }
            for argument in arguments {
                let (program, argument) = argument.split_once('=').context("--argument wants PROGRAM=ARGUMENT")?;
                options.extra_arguments.push((program.to_owned(), argument.to_owned()));
            }
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            let outcome = runtime.block_on(up(options, tier, detach));
            // After Ctrl-C a build may still run on a thread: nobody waits for it.
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome?;
        }
        Verb::Down { which, all: false } => down(&which.name)?,
        Verb::Down { all: true, .. } => {
            for record in registry::records() {
                down(&record.name)?;
            }
        }
        Verb::Status => status(),
        Verb::Kubectl { which, arguments } => {
            let record = registry::find(&which.name)?;
            let binaries = Binaries::ensure()?;
            let error = Command::new(binaries.path("kubectl")?)
                .args(arguments)
                .env("KUBECONFIG", record.kubeconfig())
                .exec();
            return Err(error).context("running kubectl");
        }
        Verb::Shell { which, command } => {
            let sandbox = Sandbox::attach(&which.name)?;
            let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
            let (program, arguments) = command
                .split_first()
                .map_or((&shell, &[][..]), |(program, arguments)| (program, arguments));
            let mut inside = sandbox.command(program)?;
            let error = inside
                .args(arguments)
                .env("KUBECONFIG", sandbox.record().kubeconfig())
                .exec();
            return Err(error).context("running nsenter");
        }
        Verb::Logs {
            which,
            component,
            follow,
        } => logs(&which.name, component.as_deref(), follow)?,
        Verb::Program {
            which,
            action,
            component,
        } => {
            let request = match action {
                Action::Start => Request::Start(component),
                Action::Stop => Request::Stop(component),
                Action::Kill => Request::Kill(component),
                Action::Freeze => Request::Freeze(component),
                Action::Thaw => Request::Thaw(component),
            };
            Sandbox::attach(&which.name)?.ask(&request)?;
        }
        Verb::Images { which, only } => {
            packages::ensure(&[packages::IMAGES])?;
            let built = images::build(&images::named(&only)?)?;
            if registry::find(&which.name).is_ok() {
                Cluster::attach(&which.name)?.import(&built)?;
            }
            for image in built {
                result(format_args!("{}  oci:{}", image.reference, image.layout.display()));
            }
        }
        Verb::Fetch => {
            packages::ensure(&[packages::CONTROL_PLANE, packages::NODE, packages::IMAGES])?;
            Binaries::ensure()?;
            Models::ensure()?;
        }
        Verb::Completion { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "tidewright-box",
                &mut std::io::stdout(),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(options: ClusterOptions, tier: Tier, detach: bool) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let name = options.name.clone();
    let started = async {
        anyhow::Ok(match tier {
            Tier::ControlPlane => ControlPlane::start(options).await?,
            Tier::Cluster => Cluster::start(options).await?.into_control_plane(),
        })
    };
    let control_plane = tokio::select! {
        started = started => started?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    progress(format_args!(
        "Kubernetes {KUBERNETES_VERSION} is ready after {:.1} s; the machine is {} for it",
        control_plane.ready_after.as_secs_f64(),
        control_plane.host_address()
    ));
    result(format_args!(
        "export KUBECONFIG={}",
        control_plane.kubeconfig().display()
    ));
    if detach {
        progress(format_args!("`{} down --name {name}` takes it down", paths::box_call()));
        return control_plane.detach();
    }
    progress("Ctrl-C takes it down");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = end_of(control_plane.sandbox().record().clone()) => progress("somebody else took it down"),
    }
    let watch = Stopwatch::start();
    tokio::task::spawn_blocking(move || control_plane.down()).await??;
    progress(format_args!("down after {:.1} s", watch.seconds()));
    Ok(())
}

/// Returns when the box is gone.
async fn end_of(record: registry::Record) {
    let mut looks = tokio::time::interval(Duration::from_millis(500));
    while record.is_up() {
        looks.tick().await;
    }
}

fn down(name: &str) -> Result<()> {
    match Sandbox::attach(name) {
        Ok(sandbox) => sandbox.down()?,
        Err(error) => {
            // A killed box has a record and nobody to remove it.
            let registry = registry::Registry::lock()?;
            let dead = registry.records().into_iter().find(|record| record.name == name);
            registry.release(&dead.ok_or(error)?)?;
        }
    }
    Ok(())
}

fn status() {
    for record in registry::records() {
        if !record.is_up() {
            result(format_args!(
                "{}  dead: `{} down --name {}` sweeps what it left",
                record.name,
                paths::box_call(),
                record.name
            ));
            continue;
        }
        result(format_args!(
            "{}  up  export KUBECONFIG={}",
            record.name,
            record.kubeconfig().display()
        ));
        let components = Sandbox::attach(&record.name).and_then(|sandbox| sandbox.ask(&Request::Status));
        match components {
            Ok(components) => {
                for component in components {
                    let state = component.pid.map_or_else(
                        || component.exit.clone().unwrap_or_else(|| "stopped".to_owned()),
                        |pid| format!("runs as {pid}"),
                    );
                    result(format_args!(
                        "  {:<26} {state}, started {} time(s)",
                        component.name, component.starts
                    ));
                }
            }
            Err(error) => result(format_args!("  {error:#}")),
        }
    }
}

fn logs(name: &str, component: Option<&str>, follow: bool) -> Result<()> {
    let dir = registry::find(name)?.dir.join("logs");
    let Some(component) = component else {
        for entry in std::fs::read_dir(&dir)?.filter_map(Result::ok) {
            result(entry.path().file_stem().unwrap_or_default().display());
        }
        return Ok(());
    };
    let path = dir.join(format!("{component}.log"));
    let mut tail = Command::new("tail");
    tail.args(["--lines=+1"])
        .args(follow.then_some("--follow=name"))
        .arg(path);
    Err(tail.exec()).context("running tail")
}
