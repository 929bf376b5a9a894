-- breaking: yes
-- Tables, row-level security and the functions that tenants, keys and callers are reached through.
-- Roles: the owner migrates; keytether_app is what the service runs as; keytether_log owns the log and its functions.

COMMENT ON SCHEMA keytether IS 'Keytether: tenants, wrapped keys, callers and the usage log.';

CREATE TABLE keytether.tenant (
  tenant_id text NOT NULL,
  name text NOT NULL,
  state text NOT NULL DEFAULT 'active',
  state_version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id),
  CONSTRAINT tenant_id_form CHECK (tenant_id ~ '^[a-z0-9_-]{1,64}$'),
  CONSTRAINT tenant_state_known CHECK (state IN ('active', 'suspended'))
) WITH (fillfactor = 70);
COMMENT ON TABLE keytether.tenant IS 'A customer of the platform. The row `system` holds what belongs to no customer.';
COMMENT ON COLUMN keytether.tenant.tenant_id IS 'The exact id that the API uses.';
COMMENT ON COLUMN keytether.tenant.state IS 'active or suspended (by the operator).';
COMMENT ON COLUMN keytether.tenant.state_version IS 'Raised by every administrative change; a use that read an older one is not released.';

CREATE TABLE keytether.binding (
  tenant_id text NOT NULL,
  binding_id bytea NOT NULL,
  version integer NOT NULL,
  object bytea NOT NULL,
  CONSTRAINT binding_pkey PRIMARY KEY (tenant_id, binding_id),
  CONSTRAINT binding_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant,
  CONSTRAINT binding_id_length CHECK (octet_length(binding_id) = 16)
);
COMMENT ON TABLE keytether.binding IS 'A customer key and how it is reached.';
COMMENT ON COLUMN keytether.binding.binding_id IS '16 random bytes.';
COMMENT ON COLUMN keytether.binding.version IS 'Replaced only by compare-and-swap on this number.';
COMMENT ON COLUMN keytether.binding.object IS 'The authenticated object, byte for byte.';

CREATE TABLE keytether.key_record (
  tenant_id text NOT NULL,
  key_id bytea NOT NULL,
  scope text NOT NULL,
  purpose text NOT NULL,
  kind smallint NOT NULL,
  key_version integer NOT NULL,
  generation bigint NOT NULL,
  sealed_count bigint NOT NULL DEFAULT 0,
  wrapper_ids bytea[] NOT NULL,
  immutable bytea NOT NULL,
  mutable bytea NOT NULL,
  CONSTRAINT key_record_pkey PRIMARY KEY (tenant_id, key_id),
  CONSTRAINT key_record_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant,
  CONSTRAINT key_record_id_length CHECK (octet_length(key_id) = 16),
  CONSTRAINT key_record_kind_known CHECK (kind IN (1, 2)),
  CONSTRAINT key_record_kind_purpose CHECK ((kind = 1) = (purpose = ''))
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX key_record_data_key_version_once ON keytether.key_record (tenant_id, scope, purpose, key_version) WHERE kind = 2;
COMMENT ON TABLE keytether.key_record IS 'A tenant root or a data key, wrapped.';
COMMENT ON COLUMN keytether.key_record.purpose IS 'Empty for a tenant root.';
COMMENT ON COLUMN keytether.key_record.kind IS '1 tenant root, 2 data key.';
COMMENT ON COLUMN keytether.key_record.generation IS 'The mutable part is replaced only by compare-and-swap on this number.';
COMMENT ON COLUMN keytether.key_record.sealed_count IS 'Messages sealed under the key, counted in the transaction that logs them.';
COMMENT ON COLUMN keytether.key_record.wrapper_ids IS 'Who wraps it: binding ids of a root, the root''s key id of a data key. A copy of what the mutable part says, for finding rows; never trusted.';
COMMENT ON COLUMN keytether.key_record.immutable IS 'First part of the authenticated object, byte for byte.';
COMMENT ON COLUMN keytether.key_record.mutable IS 'Second part of the authenticated object, byte for byte.';

CREATE TABLE keytether.head (
  tenant_id text NOT NULL,
  scope text NOT NULL,
  purpose text NOT NULL,
  current_key bytea NOT NULL,
  generation bigint NOT NULL,
  object bytea NOT NULL,
  CONSTRAINT head_pkey PRIMARY KEY (tenant_id, scope, purpose),
  CONSTRAINT head_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant,
  CONSTRAINT head_current_key_length CHECK (octet_length(current_key) = 16)
);
COMMENT ON TABLE keytether.head IS 'Which key is current: of a scope (purpose empty) the tenant root, of a purpose the data key.';
COMMENT ON COLUMN keytether.head.current_key IS '16 zero bytes: none yet.';
COMMENT ON COLUMN keytether.head.generation IS 'Replaced only by compare-and-swap on this number.';
COMMENT ON COLUMN keytether.head.object IS 'The authenticated object, byte for byte.';

CREATE TABLE keytether.principal (
  tenant_id text NOT NULL,
  principal_id text NOT NULL,
  role text NOT NULL,
  name text NOT NULL,
  scopes text[] NOT NULL,
  purposes text[] NOT NULL,
  expires_ms bigint,
  state text NOT NULL,
  secret_sha256 bytea NOT NULL,
  auth_id text NOT NULL,
  mac bytea NOT NULL,
  created_ms bigint NOT NULL,
  CONSTRAINT principal_pkey PRIMARY KEY (tenant_id, principal_id),
  CONSTRAINT principal_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant,
  CONSTRAINT principal_id_once UNIQUE (principal_id),
  CONSTRAINT principal_secret_length CHECK (octet_length(secret_sha256) = 32),
  CONSTRAINT principal_mac_length CHECK (octet_length(mac) = 32)
);
COMMENT ON TABLE keytether.principal IS 'Who may call: services, admins, auditors, one-time invitations, and (under tenant system) operators.';
COMMENT ON COLUMN keytether.principal.expires_ms IS 'Milliseconds since 1970, or null: never.';
COMMENT ON COLUMN keytether.principal.secret_sha256 IS 'SHA-256 of the API key''s secret.';
COMMENT ON COLUMN keytether.principal.auth_id IS 'Which record key made the mac.';
COMMENT ON COLUMN keytether.principal.mac IS 'HMAC-SHA-256 over every other column but name and created_ms.';

CREATE TABLE keytether.log_head (
  tenant_id text NOT NULL,
  size bigint NOT NULL DEFAULT 0,
  frontier bytea NOT NULL DEFAULT '',
  committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT log_head_pkey PRIMARY KEY (tenant_id),
  CONSTRAINT log_head_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant,
  CONSTRAINT log_head_frontier_length CHECK (octet_length(frontier) = 32 * bit_count(int8send(size)))
) WITH (fillfactor = 30);
COMMENT ON TABLE keytether.log_head IS 'The size of a tenant''s log and the roots of its perfect subtrees. Its row lock is the order of the log.';
COMMENT ON COLUMN keytether.log_head.frontier IS 'RFC 6962 roots of the perfect subtrees, one for each bit of size, largest first, 32 bytes each.';
COMMENT ON COLUMN keytether.log_head.committed_at IS 'Time of the newest append by the database''s clock; never goes back.';

CREATE TABLE keytether.log_leaf (
  tenant_id text NOT NULL,
  leaf_index bigint NOT NULL,
  eid uuid NOT NULL,
  committed_at timestamptz NOT NULL,
  leaf_hash bytea NOT NULL,
  leaf bytea NOT NULL,
  CONSTRAINT log_leaf_pkey PRIMARY KEY (tenant_id, leaf_index),
  CONSTRAINT log_leaf_eid_once UNIQUE (tenant_id, eid),
  CONSTRAINT log_leaf_size CHECK (octet_length(leaf) <= 16384)
);
ALTER TABLE keytether.log_leaf ALTER COLUMN leaf SET STORAGE EXTERNAL;
ALTER TABLE keytether.log_leaf ALTER COLUMN leaf_hash SET STORAGE PLAIN;
COMMENT ON TABLE keytether.log_leaf IS 'The usage log. Rows are written by log_append and never change.';
COMMENT ON COLUMN keytether.log_leaf.leaf_index IS 'Dense from 0 in each tenant.';
COMMENT ON COLUMN keytether.log_leaf.eid IS 'The writer''s event id; appending it again changes nothing.';
COMMENT ON COLUMN keytether.log_leaf.committed_at IS 'By the database''s clock. The time inside the leaf is the writer''s claim.';
COMMENT ON COLUMN keytether.log_leaf.leaf_hash IS 'SHA-256(0x00 || leaf), RFC 6962.';
COMMENT ON COLUMN keytether.log_leaf.leaf IS 'The exact bytes that were delivered, at most 16,384.';

CREATE TABLE keytether.flight (
  tenant_id text NOT NULL,
  intent_eid uuid NOT NULL,
  intent_index bigint NOT NULL,
  entry bytea NOT NULL,
  writer uuid NOT NULL,
  state smallint NOT NULL DEFAULT 0,
  opened_at timestamptz NOT NULL,
  CONSTRAINT flight_pkey PRIMARY KEY (tenant_id, intent_eid),
  CONSTRAINT flight_entry_length CHECK (octet_length(entry) = 32),
  CONSTRAINT flight_state_known CHECK (state BETWEEN 0 AND 3)
) WITH (fillfactor = 50);
CREATE INDEX flight_opened ON keytether.flight (opened_at);
COMMENT ON INDEX keytether.flight_opened IS 'Not partial on the state, or closing a flight could not be a heap-only update.';
COMMENT ON TABLE keytether.flight IS 'Calls to customers'' KMSs whose intent is logged. Closed rows are pruned; an unknown flight releases nothing.';
COMMENT ON COLUMN keytether.flight.intent_index IS 'Index of the intent''s leaf.';
COMMENT ON COLUMN keytether.flight.entry IS 'SHA-256 that names the wrap entry which the flight unwraps or wraps.';
COMMENT ON COLUMN keytether.flight.writer IS 'The process that made the call.';
COMMENT ON COLUMN keytether.flight.state IS '0 open, 1 ok, 2 refused, 3 any other end.';

CREATE TABLE keytether.fence (
  tenant_id text NOT NULL,
  entry bytea NOT NULL,
  refused_index bigint NOT NULL,
  CONSTRAINT fence_pkey PRIMARY KEY (tenant_id, entry),
  CONSTRAINT fence_entry_length CHECK (octet_length(entry) = 32)
) WITH (fillfactor = 50);
COMMENT ON TABLE keytether.fence IS 'The newest refused flight of each wrap entry. Flights whose intent is older release nothing any more.';
COMMENT ON COLUMN keytether.fence.refused_index IS 'Index of the refused flight''s intent.';

-- Row-level security. keytether_log is only ever the owner of functions; nobody logs in as it.
DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['tenant', 'binding', 'key_record', 'head', 'principal', 'log_head', 'log_leaf', 'flight', 'fence'] LOOP
    EXECUTE format('ALTER TABLE keytether.%I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE keytether.%I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format(
      'CREATE POLICY one_tenant ON keytether.%I TO keytether_app USING (tenant_id = NULLIF(current_setting(''keytether.tenant'', true), ''''))
        WITH CHECK (tenant_id = NULLIF(current_setting(''keytether.tenant'', true), ''''))', t);
    EXECUTE format('CREATE POLICY functions ON keytether.%I TO keytether_log USING (true) WITH CHECK (true)', t);
  END LOOP;
END
$$;

REVOKE ALL ON SCHEMA keytether FROM PUBLIC;
GRANT USAGE ON SCHEMA keytether TO keytether_app, keytether_log;
GRANT SELECT ON keytether.schema_migration TO keytether_app;
GRANT SELECT ON keytether.tenant, keytether.binding, keytether.key_record, keytether.head, keytether.principal,
  keytether.log_head, keytether.log_leaf, keytether.flight, keytether.fence TO keytether_app;
GRANT UPDATE (name, state, state_version) ON keytether.tenant TO keytether_app;
GRANT INSERT, UPDATE (version, object) ON keytether.binding TO keytether_app;
GRANT INSERT, DELETE, UPDATE (generation, wrapper_ids, mutable) ON keytether.key_record TO keytether_app;
GRANT INSERT, UPDATE (current_key, generation, object) ON keytether.head TO keytether_app;
GRANT INSERT, UPDATE (state, auth_id, mac) ON keytether.principal TO keytether_app;

GRANT SELECT, INSERT ON keytether.tenant TO keytether_log;
GRANT SELECT, INSERT, UPDATE (sealed_count) ON keytether.key_record TO keytether_log;
GRANT SELECT, INSERT, UPDATE (current_key, generation, object) ON keytether.head TO keytether_log;
GRANT SELECT ON keytether.principal TO keytether_log;
GRANT SELECT, INSERT, UPDATE (size, frontier, committed_at) ON keytether.log_head TO keytether_log;
GRANT SELECT, INSERT ON keytether.log_leaf TO keytether_log;
GRANT SELECT, INSERT, DELETE, UPDATE (state) ON keytether.flight TO keytether_log;
GRANT SELECT, INSERT, UPDATE (refused_index) ON keytether.fence TO keytether_log;

-- Functions with the rights of keytether_log.

CREATE FUNCTION keytether.tenant_create(p_tenant text, p_name text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = keytether, pg_temp
BEGIN ATOMIC
  INSERT INTO keytether.tenant (tenant_id, name) VALUES (p_tenant, p_name);
  INSERT INTO keytether.log_head (tenant_id) VALUES (p_tenant);
END;
COMMENT ON FUNCTION keytether.tenant_create IS 'A tenant and its empty log.';

CREATE FUNCTION keytether.tenant_list()
RETURNS TABLE (tenant_id text, name text, state text, state_version bigint, created_ms bigint, log_size bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = keytether, pg_temp
BEGIN ATOMIC
  SELECT t.tenant_id, t.name, t.state, t.state_version, floor(extract(epoch FROM t.created_at) * 1000)::bigint, h.size
  FROM keytether.tenant t JOIN keytether.log_head h USING (tenant_id)
  ORDER BY t.tenant_id;
END;
COMMENT ON FUNCTION keytether.tenant_list IS 'What the operator may know of every tenant.';

CREATE FUNCTION keytether.principal_read(p_ids text[])
RETURNS TABLE (tenant_id text, principal_id text, role text, name text, scopes text[], purposes text[], expires_ms bigint,
  state text, secret_sha256 bytea, auth_id text, mac bytea, created_ms bigint, tenant_state text, state_version bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = keytether, pg_temp
BEGIN ATOMIC
  SELECT p.tenant_id, p.principal_id, p.role, p.name, p.scopes, p.purposes, p.expires_ms, p.state, p.secret_sha256,
    p.auth_id, p.mac, p.created_ms, t.state, t.state_version
  FROM keytether.principal p JOIN keytether.tenant t USING (tenant_id)
  WHERE p.principal_id = ANY (p_ids);
END;
COMMENT ON FUNCTION keytether.principal_read IS 'Principals by id, before their tenant is known, with the tenant''s state in the same snapshot.';

CREATE FUNCTION keytether.log_lock(p_tenants text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = keytether, pg_temp
AS $$
BEGIN
  PERFORM 1 FROM log_head WHERE tenant_id = ANY (p_tenants) ORDER BY tenant_id FOR UPDATE;
END
$$;
COMMENT ON FUNCTION keytether.log_lock IS
  'Takes the log order of these tenants for the rest of the transaction. A transaction that changes other rows takes it first, so that it cannot deadlock with an append.';

CREATE FUNCTION keytether.flight_dangling(p_older_ms bigint, p_limit integer)
RETURNS TABLE (tenant_id text, intent_eid uuid, intent_index bigint, entry bytea, writer uuid, opened_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = keytether, pg_temp
BEGIN ATOMIC
  SELECT f.tenant_id, f.intent_eid, f.intent_index, f.entry, f.writer, floor(extract(epoch FROM f.opened_at) * 1000)::bigint
  FROM keytether.flight f
  WHERE f.state = 0 AND f.opened_at < clock_timestamp() - p_older_ms * interval '1 millisecond'
  ORDER BY f.opened_at, f.tenant_id, f.intent_eid
  LIMIT p_limit;
END;
COMMENT ON FUNCTION keytether.flight_dangling IS 'Open flights older than this many milliseconds, of all tenants, oldest first.';

CREATE FUNCTION keytether.flight_prune(p_older_ms bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = keytether, pg_temp
AS $$
DECLARE
  v_count bigint;
BEGIN
  DELETE FROM flight WHERE state <> 0 AND opened_at < clock_timestamp() - p_older_ms * interval '1 millisecond';
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END
$$;
COMMENT ON FUNCTION keytether.flight_prune IS 'Forgets flights that ended and are older than this; without its row a flight releases nothing more.';

-- One round trip reads everything that a round of requests of one tenant needs, in one snapshot.
CREATE FUNCTION keytether.round_read(p_tenant text, p_scopes text[], p_head_scopes text[], p_head_purposes text[], p_key_ids bytea[])
RETURNS TABLE (what text, scope text, purpose text, id bytea, kind smallint, version bigint, generation bigint, sealed_count bigint,
  wrapper_ids bytea[], object bytea, mutable bytea)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = keytether, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM set_config('keytether.tenant', p_tenant, true);
  RETURN QUERY
  WITH heads AS MATERIALIZED (
    SELECT h.* FROM head h WHERE h.tenant_id = p_tenant AND h.purpose = '' AND h.scope = ANY (p_scopes)
    UNION
    SELECT h.* FROM unnest(p_head_scopes, p_head_purposes) AS w (scope, purpose)
      JOIN head h ON h.tenant_id = p_tenant AND h.scope = w.scope AND h.purpose = w.purpose
  ), named AS MATERIALIZED (
    SELECT k.* FROM key_record k
    WHERE k.tenant_id = p_tenant AND k.key_id = ANY (p_key_ids || ARRAY(SELECT current_key FROM heads))
  ), records AS MATERIALIZED (
    SELECT * FROM named
    UNION
    SELECT k.* FROM key_record k
    WHERE k.tenant_id = p_tenant AND k.kind = 1
      AND k.key_id = ANY (ARRAY(SELECT unnest(n.wrapper_ids) FROM named n WHERE n.kind = 2))
  )
  SELECT 'tenant', t.state, '', NULL::bytea, NULL::smallint, t.state_version, NULL::bigint, NULL::bigint, NULL::bytea[],
      NULL::bytea, NULL::bytea
    FROM tenant t WHERE t.tenant_id = p_tenant
  UNION ALL
  SELECT 'head', h.scope, h.purpose, h.current_key, NULL, NULL, h.generation, NULL, NULL, h.object, NULL FROM heads h
  UNION ALL
  SELECT 'record', r.scope, r.purpose, r.key_id, r.kind, r.key_version, r.generation, r.sealed_count, r.wrapper_ids, r.immutable,
      r.mutable
    FROM records r
  UNION ALL
  SELECT 'binding', '', '', b.binding_id, NULL, b.version, NULL, NULL, NULL, b.object, NULL
    FROM binding b
    WHERE b.tenant_id = p_tenant
      AND b.binding_id = ANY (ARRAY(SELECT unnest(r.wrapper_ids) FROM records r WHERE r.kind = 1));
END
$$;
COMMENT ON FUNCTION keytether.round_read IS
  'Tenant state, heads, the records that they or the ids name, the roots which wrap those, and the bindings that wrap the roots. Sees one tenant, by row-level security.';
