//! Rows of servers that share a Cassandra ring, beside PostgreSQL, with all nodes and servers on this machine.
//!
//! Nodes, servers and the generator share its processors: one to three servers show what another server costs, and not what
//! another machine brings.

use anyhow::{Context, Result, ensure};
use testing::servers::cassandra::{Options, Ring};

use super::{Figure, LOAD_LIMIT, P99, PAGE, POSTGRES, RATE, THREADS_EACH, alone, compare, find, keep};
use crate::bench::{Bench, CONNECTIONS, Contender, Measured, Shape};
use crate::client::Client;
use crate::report::Unit;
use crate::server::{Owner, Server};
use crate::setup::numbered_threads;

/// Processor time of all servers and nodes for each request.
const ALL_CPU: Figure = Figure { unit: Unit::Microseconds, of: |load| load.server_cpu_us - load.generator_cpu_us };
const MOST_SERVERS: usize = 3;
const WARMING_MESSAGES: usize = 20_000;
const LISTED_THREADS: usize = 500;

pub(super) async fn fleet(bench: &mut Bench) -> Result<()> {
    for nodes in [1, 3] {
        let options = Options::default().nodes(nodes);
        let ring = tokio::task::spawn_blocking(move || Ring::start("fleet rows", &options)).await?;
        let Some(ring) = ring else {
            bench.report.skip("fleet against PostgreSQL: there is no Cassandra, which `make test` installs".into());
            return Ok(());
        };
        let on = format!("Cassandra, {nodes} nodes").replace("1 nodes", "1 node");
        let servers = start(bench, &ring, nodes).await?;
        warm_up(&servers).await?;
        append(bench, &servers, &on).await?;
        hot(bench, &servers, &on).await?;
        read(bench, &servers, &on).await?;
        drop(servers);
        tokio::task::spawn_blocking(move || drop(ring)).await?;
    }
    Ok(())
}

async fn start(bench: &Bench, ring: &Ring, nodes: usize) -> Result<Vec<Server>> {
    let program = bench.program.as_ref().context("these rows need the server")?;
    let mut servers = Vec::new();
    for _ in 0..MOST_SERVERS {
        let storage = format!(
            "storage:\n  cassandra:\n    contact_points: [{}]\n    keyspace: bench\n    replication_factor: {nodes}\n",
            ring.contact_points()
        );
        servers.push(Server::start_shared(program, &bench.workshop, &storage).await?);
    }
    Ok(servers)
}

/// Nodes that have just started are slow until their code is compiled.
async fn warm_up(servers: &[Server]) -> Result<()> {
    let owners = servers[0].create_threads(CONNECTIONS, THREADS_EACH).await?;
    let mut all = Contender::new("warming up", std::process::id(), spread(servers, &owners).await?);
    all.load(WARMING_MESSAGES, LOAD_LIMIT).await
}

/// A connection to one of the servers for each owner, in turn.
async fn spread(servers: &[Server], owners: &[Owner]) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for (owner, server) in owners.iter().zip(servers.iter().cycle()) {
        clients.extend(server.appenders(std::slice::from_ref(owner)).await?);
    }
    clients.iter_mut().for_each(Client::come_back);
    Ok(clients)
}

/// Many threads, by one server and by more, beside PostgreSQL.
async fn append(bench: &mut Bench, servers: &[Server], on: &str) -> Result<()> {
    let owners = servers[0].create_threads(CONNECTIONS, THREADS_EACH).await?;
    let before = servers[0].messages().await?;
    let postgres = bench.postgres("fleet").await?;
    let mut contenders = Vec::new();
    for count in 1..=servers.len() {
        let clients = spread(&servers[..count], &owners).await?;
        contenders.push(Contender::new(by(count), std::process::id(), clients));
    }
    if let Some(postgres) = &postgres {
        let clients = postgres.inserters(&numbered_threads(CONNECTIONS, THREADS_EACH)).await?;
        contenders.push(Contender::new(POSTGRES, postgres.id(), clients));
    }
    let measured = bench.rounds(&mut contenders, Shape::Closed).await?;
    verify(bench, &servers[0], before, &contenders).await?;
    let row = format!("append 256 B, 64 connections, {on}");
    compare(bench, &row, &measured, (&by(1), POSTGRES), RATE, None);
    compare(bench, &format!("append p99, 64 connections, {on}"), &measured, (&by(1), POSTGRES), P99, None);
    for count in 2..=servers.len() {
        compare(bench, &format!("{row}, {}", by(count)), &measured, (&by(count), &by(1)), RATE, None);
    }
    if let Some(own) = find(&measured, &by(1)) {
        let row = format!("processor time a message of server and nodes, {on}");
        bench.report.row(alone(row, ALL_CPU.unit, own.series(ALL_CPU.of), None));
    }
    keep(bench, &format!("fleet append, {on}"), measured);
    Ok(())
}

/// 64 writers on one thread, at one server and at three.
async fn hot(bench: &mut Bench, servers: &[Server], on: &str) -> Result<()> {
    let thread = servers[0].create_threads(1, 1).await?;
    let before = servers[0].messages().await?;
    let writers: Vec<Owner> = thread.iter().cycle().take(CONNECTIONS).cloned().collect();
    let mut contenders = Vec::new();
    for count in [1, servers.len()] {
        let clients = spread(&servers[..count], &writers).await?;
        contenders.push(Contender::new(by(count), std::process::id(), clients));
    }
    let measured = bench.rounds(&mut contenders, Shape::Closed).await?;
    verify(bench, &servers[0], before, &contenders).await?;
    for Measured { name, loads } in &measured {
        let rates = crate::report::Series(loads.iter().map(RATE.of).collect());
        bench.report.row(alone(format!("append to one thread, 64 writers, {on}, {name}"), RATE.unit, rates, None));
    }
    keep(bench, &format!("fleet hot, {on}"), measured);
    Ok(())
}

/// The newest messages of threads, and the threads of a user.
async fn read(bench: &mut Bench, servers: &[Server], on: &str) -> Result<()> {
    let server = &servers[0];
    let owners = server.create_threads(CONNECTIONS, 1).await?;
    let mut loader = Contender::new("loading", server.id(), server.appenders(&owners).await?);
    loader.load(CONNECTIONS * PAGE, LOAD_LIMIT).await?;
    let mut newest = [Contender::new(by(1), std::process::id(), server.listers(&owners, PAGE).await?)];
    let measured = bench.rounds(&mut newest, Shape::Closed).await?;
    row_of(bench, format!("newest 50, 64 connections, {on}"), &measured);
    keep(bench, &format!("fleet newest, {on}"), measured);
    let user = CONNECTIONS + 1;
    server.create_threads_of(user, LISTED_THREADS).await?;
    let listers = server.thread_listers(user, CONNECTIONS, PAGE).await?;
    let measured = bench.rounds(&mut [Contender::new(by(1), std::process::id(), listers)], Shape::Closed).await?;
    row_of(bench, format!("newest 50 of {LISTED_THREADS} threads, 64 connections, {on}"), &measured);
    keep(bench, &format!("fleet threads, {on}"), measured);
    Ok(())
}

fn row_of(bench: &mut Bench, name: String, measured: &[Measured]) {
    if let [own] = measured {
        bench.report.row(alone(name, RATE.unit, own.series(RATE.of), None));
    }
}

fn by(servers: usize) -> String {
    if servers == 1 { "1 server".into() } else { format!("{servers} servers") }
}

/// Fails unless every acknowledged message is there. One whose connection ended before its answer may be there too, and one
/// that was told to come back twice.
async fn verify(bench: &mut Bench, server: &Server, before: u64, contenders: &[Contender]) -> Result<()> {
    let own = || contenders.iter().filter(|of| of.name != POSTGRES);
    let acknowledged: u64 = own().map(|of| of.answered).sum();
    let came_back: u64 = own().map(Contender::came_back).sum();
    if came_back > 0 {
        bench
            .report
            .note(format!("{came_back} of {} appends of a fleet came back after a 503", acknowledged + came_back));
    }
    let there = server.messages().await? - before;
    let most = acknowledged + came_back + (contenders.len() * CONNECTIONS) as u64;
    ensure!(
        (acknowledged..=most).contains(&there),
        "the servers acknowledged {acknowledged} messages, and {there} are there"
    );
    Ok(())
}
