// A HashiCorp Vault for tests and for the benchmark: one unsealed core in memory with transit, AppRole and the file
// audit device. It listens on loopback, prints one JSON line, and ends when its standard input is closed.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/audit"
	auditfile "github.com/hashicorp/vault/builtin/audit/file"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// registry names the two plugins that are compiled in. Without one, mounting panics in the plugin catalogue.
type registry struct{}

func (registry) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	var factory logical.Factory
	switch {
	case name == "transit" && kind == consts.PluginTypeSecrets:
		factory = transit.Factory
	case name == "approle" && kind == consts.PluginTypeCredential:
		factory = approle.Factory
	default:
		return nil, false
	}
	return func() (interface{}, error) { return factory, nil }, true
}

func (r registry) Contains(name string, kind consts.PluginType) bool {
	_, found := r.Get(name, kind)
	return found
}

func (registry) Keys(kind consts.PluginType) []string {
	switch kind {
	case consts.PluginTypeSecrets:
		return []string{"transit"}
	case consts.PluginTypeCredential:
		return []string{"approle"}
	default:
		return nil
	}
}

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func newCore(logger hclog.Logger) (*vault.Core, error) {
	backend, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           backend,
		DisableMlock:       true,
		Logger:             logger,
		BuiltinRegistry:    registry{},
		LogicalBackends:    map[string]logical.Factory{"transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
		AuditBackends:      map[string]audit.Factory{"file": auditfile.Factory},
	})
}

// unsealed initializes the core with one key share, unseals it and returns the root token.
func unsealed(core *vault.Core) (string, error) {
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	result, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
	if err != nil {
		return "", err
	}
	if _, err := core.Unseal(result.SecretShares[0]); err != nil {
		return "", err
	}
	return result.RootToken, nil
}

func run() error {
	core, err := newCore(hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr}))
	if err != nil {
		return err
	}
	token, err := unsealed(core)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ready := map[string]string{"address": "http://" + listener.Addr().String(), "token": token}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(listener, vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core:           core,
		ListenerConfig: &configutil.Listener{},
	}))
}

func main() {
	if err := run(); err != nil {
		log.Fatalf("vault: %v", err)
	}
}
