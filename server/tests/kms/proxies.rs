//! Proxies that the environment names: the clients of all providers take them in the same way.

use testing::servers::forward::{Forward, HOST};
use testing::servers::{Settings, providers};
use testing::temporary_directory;
use testing::{Finished, finish, program};

#[track_caller]
fn check(settings: &Settings, environment: &[(&str, &str)]) -> Finished {
    let directory = temporary_directory();
    let mut command = program(&["kms", "check", "--json"], directory.path());
    command.envs(settings.pairs()).envs(environment.iter().copied());
    let finished = finish(command);
    assert!(!finished.said().contains("hush-71d0b6"), "a password is shown: {}", finished.said());
    finished
}

#[test]
fn every_provider_is_reached_through_the_proxy_of_the_environment() {
    for provider in providers("every_provider_is_reached_through_the_proxy_of_the_environment") {
        let Some(server) = &provider.proxy else { continue };
        let forward = Forward::to(server.addr);
        let elsewhere = provider.base().set("endpoint", format!("http://{HOST}"));
        for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
            let before = forward.asked().len();
            check(&elsewhere, &[(variable, &forward.url())]).check_code(0);
            let asked = forward.asked().split_off(before);
            assert!(!asked.is_empty(), "{}: {variable} is not used", provider.name);
            let plain = |asked: &String| asked.contains(&format!(" http://{HOST}/"));
            assert!(asked.iter().all(plain), "{}: {asked:?}", provider.name);
        }
    }
}

#[test]
fn what_is_not_to_go_through_the_proxy_does_not() {
    for provider in providers("what_is_not_to_go_through_the_proxy_does_not") {
        let Some(server) = &provider.proxy else { continue };
        let forward = Forward::to(server.addr);
        let url = forward.url();
        // This machine is reached directly, whatever is said.
        check(&provider.base(), &[("HTTP_PROXY", &url), ("ALL_PROXY", &url)]).check_code(0);
        let elsewhere = provider.base().set("endpoint", format!("http://{HOST}")).set("timeout", "300ms");
        for direct in [HOST, ".test", "test", "*.test", "*", "other.example, elsewhere.test"] {
            check(&elsewhere, &[("HTTP_PROXY", &url), ("NO_PROXY", direct)]).check_code(1);
        }
        check(&elsewhere, &[("HTTPS_PROXY", &url)]).check_code(1);
        assert_eq!(forward.asked(), [""; 0], "{}", provider.name);
    }
}

#[test]
fn an_address_with_tls_is_reached_through_a_tunnel() {
    for provider in providers("an_address_with_tls_is_reached_through_a_tunnel") {
        let Some(server) = &provider.proxy else { continue };
        let forward = Forward::to(server.addr);
        let elsewhere = provider.base().set("endpoint", format!("https://{HOST}"));
        check(&elsewhere, &[("HTTPS_PROXY", &forward.url())]).check_code(1).check_says(&["unavailable"]);
        let asked = forward.asked();
        let tunnel = format!("CONNECT {HOST}:443");
        assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == tunnel), "{}: {asked:?}", provider.name);
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_by_the_name_of_its_variable() {
    for provider in providers("a_proxy_that_cannot_be_used_is_refused_by_the_name_of_its_variable") {
        let wanted = if provider.proxy.is_some() { 78 } else { 0 };
        let finished = check(&provider.base(), &[("HTTPS_PROXY", "socks5://u:hush-71d0b6@127.0.0.1:1")]);
        finished.check_code(wanted);
        assert_eq!(finished.said().contains("HTTPS_PROXY"), wanted == 78, "{}", finished.said());
    }
}
