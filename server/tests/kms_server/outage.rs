//! A KMS that goes away from a server that runs.

use serde_json::{Value, json};
use testing::servers::Provider;
use testing::{Setup, wait_until};

use crate::conversation::Conversation;
use crate::{CANARY, encrypted, for_every, holding, readiness, status, wait_until_kms_is, wait_until_logged};

/// How a KMS is gone.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Connections end, the key file is not there.
    Gone,
    /// It is there and says nothing.
    Hung,
    /// Vault answers that it is sealed.
    Sealed,
}

impl Outage {
    fn of(provider: &Provider) -> &'static [Self] {
        match provider.name {
            "local" => &[Self::Gone],
            "vault" => &[Self::Sealed, Self::Hung],
            _ => &[Self::Gone, Self::Hung],
        }
    }

    fn begin(self, provider: &mut Provider) {
        match self {
            Self::Gone => provider.go_away(),
            Self::Sealed => provider.real_vault().seal(),
            Self::Hung => provider.hang(),
        }
    }

    fn end(self, provider: &mut Provider) {
        match self {
            Self::Gone => provider.come_back(),
            Self::Sealed => provider.real_vault().unseal(),
            Self::Hung => provider.go_on(),
        }
    }
}

fn setup(provider: &Provider, grace: &str) -> Setup {
    let setup = encrypted(&provider.base().set("timeout", "1s"));
    setup.set("encryption.kms.seal_grace", "2s").set("encryption.kms.grace", grace)
}

/// The fields that say how it is with reads and writes.
fn modes(ready: &Value) -> Value {
    json!([ready["status"], ready["writes"], ready["reason"], ready["kms"]["status"]])
}

/// Two servers have the same KMS; one of them may read for ever without it.
#[test]
fn an_outage_stops_writes_then_reads_and_its_end_lets_both_go_on() {
    for_every("an_outage_stops_writes_then_reads_and_its_end_lets_both_go_on", |mut provider| {
        let setups = [setup(&provider, "1h"), setup(&provider, "4s")];
        let [patient, strict] = setups.each_ref().map(Setup::start);
        let mut patients = Conversation::begin(&patient);
        let mut stricts = Conversation::begin(&strict);
        for &outage in Outage::of(&provider) {
            println!("{} is {outage:?}", provider.name);
            outage.begin(&mut provider);
            wait_until("reads are refused", || {
                let reads = stricts.try_read();
                let writes = stricts.try_write();
                assert!(reads || !writes, "what cannot be read is written");
                !reads
            });
            stricts.check_writes_nothing();
            stricts.check_reads_nothing();
            let refused = readiness(&strict);
            refused.check_status(503);
            assert_eq!(refused.json()["reason"], json!("the KMS has been gone for too long"));

            wait_until("writes are refused", || !patients.try_write());
            patients.check_writes_nothing();
            patients.check_kept();
            let ready = readiness(&patient).check_status(200).json();
            assert_eq!(modes(&ready), json!(["ok", "refused", "the KMS is gone", "failing"]));
            let kms = &status(&patient)["kms"];
            assert_eq!(json!([kms["provider"], kms["may_seal"], kms["may_open"]]), json!([provider.name, false, true]));
            assert!(kms["failure"].as_str().is_some_and(|words| !words.is_empty()), "{kms}");
            for server in [&patient, &strict] {
                wait_until_logged(server, "kms.failing");
            }

            outage.end(&mut provider);
            wait_until("writes are accepted", || patients.try_write() && stricts.try_write());
            for (server, conversation) in [(&patient, &mut patients), (&strict, &mut stricts)] {
                wait_until_kms_is(server, "ok");
                conversation.append();
                conversation.check_kept();
                let ready = readiness(server).check_status(200).json();
                assert_eq!(modes(&ready), json!(["ok", null, null, "ok"]));
            }
        }
        for ((setup, server), mut conversation) in setups.iter().zip([patient, strict]).zip([patients, stricts]) {
            assert!(holding(setup.db(), CANARY).is_empty(), "{}", provider.name);
            server.stop().check_code(0);
            assert!(holding(setup.db(), CANARY).is_empty(), "{}", provider.name);
            let server = setup.start();
            conversation.go_on(&server);
            conversation.check_kept();
        }
    });
}
