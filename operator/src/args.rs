//! The command lines: of the operator, and of the kubectl plugin that the same program is when it is called so.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

/// The name under which the program is the kubectl plugin.
pub const PLUGIN: &str = "kubectl-progressdb";

/// Runs ProgressDB on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "progressdb-operator", version)]
pub struct Args {
    /// Look after resources in this namespace only [default: all namespaces]
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Where the Lease is by which one operator of several leads [default: none, this one is alone]
    #[arg(long, value_name = "NAMESPACE", requires = "identity")]
    pub lease_namespace: Option<String>,
    /// The name of that Lease: another one for each installation, or the second never works
    #[arg(long, value_name = "NAME", default_value = "progressdb-operator")]
    pub lease: String,
    /// Who this operator is among several: the name of its pod
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Where health and metrics are served; `[::]` takes IPv4 and IPv6
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// Ask the operator that runs at HOST:PORT whether it is ready, print what it says, and end
    #[arg(long, value_name = "HOST:PORT", exclusive = true)]
    pub probe: Option<String>,
    /// What is logged: a level, or directives as in `info,kube=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// One line an event, for people or for machines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Looks after ProgressDB resources.
#[derive(Debug, Parser)]
#[command(name = PLUGIN, bin_name = "kubectl progressdb", version)]
pub struct PluginArgs {
    /// The namespace of the resource [default: that of the kubeconfig's context]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The kubeconfig's context
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// The kubeconfig file
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: PluginCommand,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum PluginCommand {
    /// Say how a database is, and what to do if something is the matter
    Status {
        /// The resource
        name: String,
    },
    /// Write everything that helps to understand a problem as YAML; Secrets are left out
    Report {
        /// The resource
        name: String,
        /// Only what happened in an upgrade: the last one, or that of this id
        #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
        upgrade: Option<String>,
    },
    /// Restart the server, after the same checks as for a change
    Restart {
        /// The resource
        name: String,
    },
    /// Print the API keys
    Keys {
        /// The resource
        name: String,
    },
    /// Forward a local port to the database until Ctrl-C
    Connect {
        /// The resource
        name: String,
        /// The local port; 0 lets the system choose
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Ask for another image, which is proved before clients meet it
    Upgrade {
        /// The resource
        name: String,
        /// The image, with a tag or a digest
        #[arg(long)]
        image: String,
        /// Follow it: the exit code is 0 if it succeeded, 1 if it was rolled back or given up, 2 if it waits for somebody.
        /// To end this changes nothing
        #[arg(long)]
        watch: bool,
    },
    /// Let an upgrade go on that waits for your approval
    Approve {
        /// The resource
        name: String,
        /// Approve going back with a loss, which the status tells
        #[arg(long)]
        rollback: bool,
    },
    /// Let an upgrade pass a gate or a hold that stopped it
    Override {
        /// The resource
        name: String,
        /// The gate or the hold: the status has the whole command
        gate: String,
        /// For how long that is meant
        #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
        lasts: String,
    },
    /// Give up the upgrade that is under way
    Abort {
        /// The resource
        name: String,
    },
    /// Ask for the image that ran before, unless that would lose something
    Rollback {
        /// The resource
        name: String,
    },
    /// List the upgrades that have ended
    History {
        /// The resource
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Args::command().debug_assert();
        PluginArgs::command().debug_assert();
    }

    #[test]
    fn a_lease_needs_to_know_who_takes_it() {
        Args::try_parse_from(["progressdb-operator", "--lease-namespace", "a"]).expect_err("no identity");
        Args::try_parse_from(["progressdb-operator", "--lease-namespace", "a", "--identity", "b"]).expect("both");
    }
}
