// Vault-test is a real Vault for tests: transit, AppRole and Kubernetes auth, kept in memory, unsealed, without TLS.
//
// It prints one line when it is ready and serves until it is killed:
//
//	listening ADDRESS token ROOT_TOKEN unseal KEY
//
// The released program cannot be had from the module proxy as a tool, and its development mode keeps the key with which
// a test unseals it again; so the core is wired here, with one unseal key and only the plug-ins that tests use.
package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// catalogue lists the plug-ins that are compiled in, by kind and name.
type catalogue map[consts.PluginType]map[string]logical.Factory

var compiledIn = catalogue{
	consts.PluginTypeSecrets:    {"transit": transit.Factory, "kv": vault.PassthroughBackendFactory},
	consts.PluginTypeCredential: {"approle": approle.Factory, "kubernetes": kubernetes.Factory},
}

func (c catalogue) Contains(name string, kind consts.PluginType) bool {
	_, found := c[kind][name]
	return found
}

func (c catalogue) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, found := c[kind][name]
	return func() (interface{}, error) { return factory, nil }, found
}

func (c catalogue) Keys(kind consts.PluginType) []string {
	var names []string
	for name := range c[kind] {
		names = append(names, name)
	}
	return names
}

func (catalogue) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, true
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8200", "address to listen on")
	flag.Parse()
	if err := serve(*addr); err != nil {
		log.Fatal(err)
	}
}

func serve(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	core, token, unseal, err := start()
	if err != nil {
		return err
	}
	fmt.Printf("listening %s token %s unseal %s\n", listener.Addr(), token, base64.StdEncoding.EncodeToString(unseal))
	return http.Serve(listener, vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core}))
}

// start initializes an empty Vault with one unseal key and unseals it.
func start() (core *vault.Core, token string, unseal []byte, err error) {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, "", nil, err
	}
	core, err = vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger,
		DisableMlock:       true,
		BuiltinRegistry:    compiledIn,
		LogicalBackends:    compiledIn[consts.PluginTypeSecrets],
		CredentialBackends: compiledIn[consts.PluginTypeCredential],
	})
	if err != nil {
		return nil, "", nil, err
	}
	made, err := core.Initialize(context.Background(), &vault.InitParams{
		BarrierConfig:  &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
		RecoveryConfig: &vault.SealConfig{},
	})
	if err != nil {
		return nil, "", nil, err
	}
	unseal = made.SecretShares[0]
	_, err = core.Unseal(unseal)
	return core, made.RootToken, unseal, err
}
