-- Made from the catalogues by `npm run schema:dump`; a test fails when a migration changes it.

-- roles

keytether_app nologin

keytether_log nologin

-- schema

keytether grants keytether_app=U/owner keytether_log=U/owner
  -- Keytether: tenants, wrapped keys, callers and the usage log.

-- tables

TABLE binding row security forced
  -- A customer key and how it is reached.
  tenant_id text NOT NULL
  binding_id bytea NOT NULL -- 16 random bytes.
  version integer NOT NULL grants keytether_app=w/owner -- Replaced only by compare-and-swap on this number.
  object bytea NOT NULL grants keytether_app=w/owner -- The authenticated object, byte for byte.
  CONSTRAINT binding_id_length CHECK ((octet_length(binding_id) = 16))
  CONSTRAINT binding_pkey PRIMARY KEY (tenant_id, binding_id)
  CONSTRAINT binding_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant(tenant_id)
  GRANT keytether_app=ar/owner

TABLE fence WITH (fillfactor=50) row security forced
  -- The newest refused flight of each wrap entry. Flights whose intent is older release nothing any more.
  tenant_id text NOT NULL
  entry bytea NOT NULL
  refused_index bigint NOT NULL grants keytether_log=w/owner -- Index of the refused flight's intent.
  CONSTRAINT fence_entry_length CHECK ((octet_length(entry) = 32))
  CONSTRAINT fence_pkey PRIMARY KEY (tenant_id, entry)
  GRANT keytether_app=r/owner
  GRANT keytether_log=ar/owner

TABLE flight WITH (fillfactor=50) row security forced
  -- Calls to customers' KMSs whose intent is logged. Closed rows are pruned; an unknown flight releases nothing.
  tenant_id text NOT NULL
  intent_eid uuid NOT NULL
  intent_index bigint NOT NULL -- Index of the intent's leaf.
  entry bytea NOT NULL -- SHA-256 that names the wrap entry which the flight unwraps or wraps.
  writer uuid NOT NULL -- The process that made the call.
  state smallint NOT NULL DEFAULT 0 grants keytether_log=w/owner -- 0 open, 1 ok, 2 refused, 3 any other end.
  opened_at timestamp with time zone NOT NULL
  CONSTRAINT flight_entry_length CHECK ((octet_length(entry) = 32))
  CONSTRAINT flight_pkey PRIMARY KEY (tenant_id, intent_eid)
  CONSTRAINT flight_state_known CHECK (((state >= 0) AND (state <= 3)))
  GRANT keytether_app=r/owner
  GRANT keytether_log=ard/owner

TABLE head row security forced
  -- Which key is current: of a scope (purpose empty) the tenant root, of a purpose the data key.
  tenant_id text NOT NULL
  scope text NOT NULL
  purpose text NOT NULL
  current_key bytea NOT NULL grants keytether_app=w/owner keytether_log=w/owner -- 16 zero bytes: none yet.
  generation bigint NOT NULL grants keytether_app=w/owner keytether_log=w/owner -- Replaced only by compare-and-swap on this number.
  object bytea NOT NULL grants keytether_app=w/owner keytether_log=w/owner -- The authenticated object, byte for byte.
  CONSTRAINT head_current_key_length CHECK ((octet_length(current_key) = 16))
  CONSTRAINT head_pkey PRIMARY KEY (tenant_id, scope, purpose)
  CONSTRAINT head_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant(tenant_id)
  GRANT keytether_app=ar/owner
  GRANT keytether_log=ar/owner

TABLE key_record WITH (fillfactor=50) row security forced
  -- A tenant root or a data key, wrapped.
  tenant_id text NOT NULL
  key_id bytea NOT NULL
  scope text NOT NULL
  purpose text NOT NULL -- Empty for a tenant root.
  kind smallint NOT NULL -- 1 tenant root, 2 data key.
  key_version integer NOT NULL
  generation bigint NOT NULL grants keytether_app=w/owner -- The mutable part is replaced only by compare-and-swap on this number.
  sealed_count bigint NOT NULL DEFAULT 0 grants keytether_log=w/owner -- Messages sealed under the key, counted in the transaction that logs them.
  wrapper_ids bytea[] NOT NULL grants keytether_app=w/owner -- Who wraps it: binding ids of a root, the root's key id of a data key. A copy of what the mutable part says, for finding rows; never trusted.
  immutable bytea NOT NULL -- First part of the authenticated object, byte for byte.
  mutable bytea NOT NULL grants keytether_app=w/owner -- Second part of the authenticated object, byte for byte.
  CONSTRAINT key_record_id_length CHECK ((octet_length(key_id) = 16))
  CONSTRAINT key_record_kind_known CHECK ((kind = ANY (ARRAY[1, 2])))
  CONSTRAINT key_record_kind_purpose CHECK (((kind = 1) = (purpose = ''::text)))
  CONSTRAINT key_record_pkey PRIMARY KEY (tenant_id, key_id)
  CONSTRAINT key_record_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant(tenant_id)
  GRANT keytether_app=ard/owner
  GRANT keytether_log=ar/owner

TABLE log_checkpoint row security forced
  -- Signed checkpoints: the newest of each tree, and the last one of each hour before.
  tenant_id text NOT NULL
  size bigint NOT NULL
  note text NOT NULL grants keytether_log=w/owner -- The signed note, byte for byte.
  at timestamp with time zone NOT NULL DEFAULT clock_timestamp() grants keytether_log=w/owner -- By the database's clock.
  CONSTRAINT log_checkpoint_pkey PRIMARY KEY (tenant_id, size)
  CONSTRAINT log_checkpoint_size CHECK ((size > 0))
  CONSTRAINT log_checkpoint_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant(tenant_id)
  GRANT keytether_app=r/owner
  GRANT keytether_log=ard/owner

TABLE log_head WITH (fillfactor=30) row security forced
  -- The size of a tenant's log and the roots of its perfect subtrees. Its row lock is the order of the log.
  tenant_id text NOT NULL
  size bigint NOT NULL DEFAULT 0 grants keytether_log=w/owner
  frontier bytea NOT NULL DEFAULT '\x'::bytea grants keytether_log=w/owner -- RFC 6962 roots of the perfect subtrees, one for each bit of size, largest first, 32 bytes each.
  committed_at timestamp with time zone NOT NULL DEFAULT clock_timestamp() grants keytether_log=w/owner -- Time of the newest append by the database's clock; never goes back.
  CONSTRAINT log_head_frontier_length CHECK ((octet_length(frontier) = (32 * bit_count(int8send(size)))))
  CONSTRAINT log_head_pkey PRIMARY KEY (tenant_id)
  CONSTRAINT log_head_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant(tenant_id)
  GRANT keytether_app=r/owner
  GRANT keytether_log=ar/owner

TABLE log_leaf row security forced
  -- The usage log. Rows are written by log_append and never change.
  tenant_id text NOT NULL
  leaf_index bigint NOT NULL -- Dense from 0 in each tenant.
  eid uuid NOT NULL -- The writer's event id; appending it again changes nothing.
  committed_at timestamp with time zone NOT NULL -- By the database's clock. The time inside the leaf is the writer's claim.
  leaf_hash bytea NOT NULL storage p -- SHA-256(0x00 || leaf), RFC 6962.
  leaf bytea NOT NULL storage e -- The exact bytes that were delivered, at most 16,384.
  CONSTRAINT log_leaf_eid_once UNIQUE (tenant_id, eid)
  CONSTRAINT log_leaf_pkey PRIMARY KEY (tenant_id, leaf_index)
  CONSTRAINT log_leaf_size CHECK ((octet_length(leaf) <= 16384))
  GRANT keytether_app=r/owner
  GRANT keytether_log=ar/owner

TABLE log_published WITH (fillfactor=50) row security forced
  -- How far each tree is published: a small copy of its newest checkpoint's place, so that finding the trees that grew reads no history.
  tenant_id text NOT NULL
  size bigint NOT NULL grants keytether_log=w/owner -- Size of the newest checkpoint.
  vkey text NOT NULL grants keytether_log=w/owner -- Verifier key (c2sp.org/signed-note) of the key that signed it first.
  at timestamp with time zone NOT NULL grants keytether_log=w/owner
  CONSTRAINT log_published_pkey PRIMARY KEY (tenant_id)
  CONSTRAINT log_published_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant(tenant_id)
  GRANT keytether_app=r/owner
  GRANT keytether_log=ar/owner

TABLE log_tile row security forced
  -- Full tiles (c2sp.org/tlog-tiles), written by log_tile_grow; they never change. Dense from 0 in each level.
  tenant_id text NOT NULL
  level smallint NOT NULL -- 0: the hashes are leaf hashes; above, each is the root of a full tile of the level below.
  n bigint NOT NULL
  hashes bytea NOT NULL storage e -- 256 hashes of 32 bytes.
  root bytea NOT NULL storage p -- Merkle root of the 256 hashes: one hash of the level above.
  CONSTRAINT log_tile_full CHECK ((octet_length(hashes) = 8192))
  CONSTRAINT log_tile_pkey PRIMARY KEY (tenant_id, level, n)
  CONSTRAINT log_tile_root_length CHECK ((octet_length(root) = 32))
  CONSTRAINT log_tile_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant(tenant_id)
  GRANT keytether_app=r/owner
  GRANT keytether_log=ar/owner

TABLE principal row security forced
  -- Who may call: services, admins, auditors, one-time invitations, and (under tenant system) operators.
  tenant_id text NOT NULL
  principal_id text NOT NULL
  role text NOT NULL
  name text NOT NULL
  scopes text[] NOT NULL
  purposes text[] NOT NULL
  expires_ms bigint -- Milliseconds since 1970, or null: never.
  state text NOT NULL grants keytether_app=w/owner
  secret_sha256 bytea NOT NULL -- SHA-256 of the API key's secret.
  auth_id text NOT NULL grants keytether_app=w/owner -- Which record key made the mac.
  mac bytea NOT NULL grants keytether_app=w/owner -- HMAC-SHA-256 over every other column but name and created_ms.
  created_ms bigint NOT NULL
  CONSTRAINT principal_id_once UNIQUE (principal_id)
  CONSTRAINT principal_mac_length CHECK ((octet_length(mac) = 32))
  CONSTRAINT principal_pkey PRIMARY KEY (tenant_id, principal_id)
  CONSTRAINT principal_secret_length CHECK ((octet_length(secret_sha256) = 32))
  CONSTRAINT principal_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant(tenant_id)
  GRANT keytether_app=ar/owner
  GRANT keytether_log=r/owner

TABLE schema_migration
  -- The migrations that this database has.
  version integer NOT NULL
  name text NOT NULL
  breaking boolean NOT NULL -- A program that does not know the migration must not run.
  checksum text NOT NULL -- SHA-256 of the migration's file, hex.
  applied_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()
  CONSTRAINT schema_migration_pkey PRIMARY KEY (version)
  GRANT keytether_app=r/owner

TABLE tenant WITH (fillfactor=70) row security forced
  -- A customer of the platform. The row `system` holds what belongs to no customer.
  tenant_id text NOT NULL -- The exact id that the API uses.
  name text NOT NULL grants keytether_app=w/owner
  state text NOT NULL DEFAULT 'active'::text grants keytether_app=w/owner -- active or suspended (by the operator).
  state_version bigint NOT NULL DEFAULT 1 grants keytether_app=w/owner -- Raised by every administrative change; a use that read an older one is not released.
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()
  CONSTRAINT tenant_id_form CHECK ((tenant_id ~ '^[a-z0-9_-]{1,64}$'::text))
  CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id)
  CONSTRAINT tenant_state_known CHECK ((state = ANY (ARRAY['active'::text, 'suspended'::text])))
  GRANT keytether_app=r/owner
  GRANT keytether_log=ar/owner

-- indexes

CREATE UNIQUE INDEX binding_pkey ON keytether.binding USING btree (tenant_id, binding_id)

CREATE UNIQUE INDEX fence_pkey ON keytether.fence USING btree (tenant_id, entry)

CREATE INDEX flight_opened ON keytether.flight USING btree (opened_at)
  -- Not partial on the state, or closing a flight could not be a heap-only update.

CREATE UNIQUE INDEX flight_pkey ON keytether.flight USING btree (tenant_id, intent_eid)

CREATE UNIQUE INDEX head_pkey ON keytether.head USING btree (tenant_id, scope, purpose)

CREATE UNIQUE INDEX key_record_data_key_version_once ON keytether.key_record USING btree (tenant_id, scope, purpose, key_version) WHERE (kind = 2)

CREATE UNIQUE INDEX key_record_pkey ON keytether.key_record USING btree (tenant_id, key_id)

CREATE UNIQUE INDEX log_checkpoint_pkey ON keytether.log_checkpoint USING btree (tenant_id, size)

CREATE UNIQUE INDEX log_head_pkey ON keytether.log_head USING btree (tenant_id)

CREATE UNIQUE INDEX log_leaf_eid_once ON keytether.log_leaf USING btree (tenant_id, eid)

CREATE UNIQUE INDEX log_leaf_pkey ON keytether.log_leaf USING btree (tenant_id, leaf_index)

CREATE UNIQUE INDEX log_published_pkey ON keytether.log_published USING btree (tenant_id)

CREATE UNIQUE INDEX log_tile_pkey ON keytether.log_tile USING btree (tenant_id, level, n)

CREATE UNIQUE INDEX principal_id_once ON keytether.principal USING btree (principal_id)

CREATE UNIQUE INDEX principal_pkey ON keytether.principal USING btree (tenant_id, principal_id)

CREATE UNIQUE INDEX schema_migration_pkey ON keytether.schema_migration USING btree (version)

CREATE UNIQUE INDEX tenant_pkey ON keytether.tenant USING btree (tenant_id)

-- policies

POLICY functions ON binding PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON binding PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON fence PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON fence PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON flight PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON flight PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON head PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON head PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON key_record PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON key_record PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON log_checkpoint PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON log_checkpoint PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON log_head PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON log_head PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON log_leaf PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON log_leaf PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON log_published PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON log_published PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON log_tile PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON log_tile PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON principal PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON principal PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

POLICY functions ON tenant PERMISSIVE FOR ALL TO keytether_log
  USING true
  CHECK true

POLICY one_tenant ON tenant PERMISSIVE FOR ALL TO keytether_app
  USING (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))
  CHECK (tenant_id = NULLIF(current_setting('keytether.tenant'::text, true), ''::text))

-- functions

CREATE OR REPLACE FUNCTION keytether.flight_dangling(p_older_ms bigint, p_limit integer)
 RETURNS TABLE(tenant_id text, intent_eid uuid, intent_index bigint, entry bytea, writer uuid, opened_ms bigint)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
BEGIN ATOMIC
 SELECT f.tenant_id,
     f.intent_eid,
     f.intent_index,
     f.entry,
     f.writer,
     (floor((EXTRACT(epoch FROM f.opened_at) * (1000)::numeric)))::bigint AS floor
    FROM keytether.flight f
   WHERE ((f.state = 0) AND (f.opened_at < (clock_timestamp() - ((flight_dangling.p_older_ms)::double precision * '00:00:00.001'::interval))))
   ORDER BY f.opened_at, f.tenant_id, f.intent_eid
  LIMIT flight_dangling.p_limit;
END
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Open flights older than this many milliseconds, of all tenants, oldest first.

CREATE OR REPLACE FUNCTION keytether.flight_prune(p_older_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
AS $function$
DECLARE
  v_count bigint;
BEGIN
  DELETE FROM flight WHERE state <> 0 AND opened_at < clock_timestamp() - p_older_ms * interval '1 millisecond';
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END
$function$
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Forgets flights that ended and are older than this; without its row a flight releases nothing more.

CREATE OR REPLACE FUNCTION keytether.log_append(p_leaves bytea, p_lengths integer[], p_eids bytea, p_row_unit integer[], p_row_guarded boolean[], p_tenants text[], p_kinds smallint[], p_results smallint[], p_flights bytea, p_entries bytea, p_state_versions bigint[], p_writer uuid, p_objects jsonb, p_count_unit integer[], p_count_keys bytea, p_count_n bigint[], p_count_limit bigint[], OUT indices bigint[], OUT verdicts smallint[], OUT hashes bytea, OUT committed_ms bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
 SET lock_timeout TO '1500ms'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
#variable_conflict use_variable
DECLARE
  v_now timestamptz;
  v_heads text[];
  v_sizes bigint[];
  v_frontiers bytea[];
  v_units integer := cardinality(p_tenants);
  v_unit_head integer[];
  v_offsets integer[];
  v_eids uuid[];
  v_present bigint[];
  v_replay boolean[];
  v_intents bigint[];
  v_effects boolean;
  v_object jsonb;
  v_unit integer;
  v_counted boolean[] := '{}';
  v_full boolean;
  v_order_head integer[];
  v_order_hash bytea;
  v_head integer;
  v_last integer;
  v_frontier bytea;
  v_top integer;
  v_bits bigint;
  v_hash bytea;
  i integer;
BEGIN
  -- The order of the log, always taken in the order of tenant ids.
  SELECT array_agg(h.tenant_id ORDER BY h.tenant_id), array_agg(h.size ORDER BY h.tenant_id),
      array_agg(h.frontier ORDER BY h.tenant_id), greatest(clock_timestamp(), max(h.committed_at))
    INTO v_heads, v_sizes, v_frontiers, v_now
    FROM (SELECT * FROM log_head l WHERE l.tenant_id = ANY (p_tenants) ORDER BY l.tenant_id FOR UPDATE) h;
  SELECT array_agg(array_position(v_heads, u.tenant) ORDER BY u.n) INTO v_unit_head FROM unnest(p_tenants) WITH ORDINALITY u (tenant, n);
  IF array_position(v_unit_head, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'log_append: unknown tenant' USING ERRCODE = 'KT001';
  END IF;
  IF 16384 < ANY (p_lengths) THEN
    RAISE EXCEPTION 'log_append: a leaf is longer than 16384 bytes' USING ERRCODE = 'KT002';
  END IF;
  verdicts := array_fill(0::smallint, ARRAY[v_units]);

  -- Rows that an earlier call has appended keep their index.
  SELECT array_agg(r.eid ORDER BY r.n), array_agg(l.leaf_index ORDER BY r.n)
    INTO v_eids, v_present
    FROM (
      SELECT u.n, u.unit, encode(substr(p_eids, (u.n::integer - 1) * 16 + 1, 16), 'hex')::uuid AS eid
      FROM unnest(p_row_unit) WITH ORDINALITY u (unit, n)
    ) r
    LEFT JOIN log_leaf l ON l.tenant_id = p_tenants[r.unit] AND l.eid = r.eid;
  v_replay := array_fill(false, ARRAY[v_units]);
  IF cardinality(array_remove(v_present, NULL)) > 0 THEN
    -- A unit was appended before when a guarded row of it is there, or any row if it has no guarded ones.
    SELECT array_agg(coalesce(s.replay, false) ORDER BY u.n) INTO v_replay
      FROM generate_series(1, v_units) u (n)
      LEFT JOIN (
        SELECT r.unit, CASE WHEN bool_or(r.guarded) THEN bool_or(r.present IS NOT NULL) FILTER (WHERE r.guarded)
          ELSE bool_or(r.present IS NOT NULL) END AS replay
        FROM unnest(p_row_unit, p_row_guarded, v_present) r (unit, guarded, present)
        GROUP BY r.unit
      ) s ON s.unit = u.n;
  END IF;
  v_effects := false = ANY (v_replay);

  -- Flights, fences and the tenant's state. What earlier units of this call say about a flight counts as well.
  IF v_effects AND (2 = ANY (p_kinds) OR -1 <> ANY (p_state_versions)) THEN
    SELECT array_agg(j.intent_index ORDER BY j.n),
        array_agg(CASE
          WHEN v_replay[j.n] THEN 0
          WHEN j.kind = 2 AND (j.intent_index IS NULL OR greatest(j.state, j.closed_before) > 1) THEN 1
          WHEN j.kind = 2 AND j.intent_index <= greatest(j.refused_index, j.refused_before) THEN 2
          WHEN j.wanted_version <> -1 AND j.wanted_version IS DISTINCT FROM j.state_version THEN 3
          ELSE 0 END::smallint ORDER BY j.n)
      INTO v_intents, verdicts
      FROM (
        SELECT u.n::integer AS n, u.kind, u.wanted_version, t.state_version, f.intent_index, f.state, e.refused_index,
          max(u.result) FILTER (WHERE u.kind = 2) OVER (PARTITION BY u.tenant, f.intent_eid ORDER BY u.n
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS closed_before,
          max(f.intent_index) FILTER (WHERE u.kind = 2 AND u.result = 2) OVER (PARTITION BY u.tenant, f.entry ORDER BY u.n
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS refused_before
        FROM unnest(p_tenants, p_kinds, p_results, p_state_versions) WITH ORDINALITY u (tenant, kind, result, wanted_version, n)
        JOIN tenant t ON t.tenant_id = u.tenant
        LEFT JOIN flight f ON u.kind = 2 AND f.tenant_id = u.tenant
          AND f.intent_eid = encode(substr(p_flights, (u.n::integer - 1) * 16 + 1, 16), 'hex')::uuid
        LEFT JOIN fence e ON e.tenant_id = f.tenant_id AND e.entry = f.entry
      ) j;
  END IF;

  -- New keys: all of a unit or none, and only while root and head are the ones that were read.
  IF v_effects AND p_objects IS NOT NULL THEN
    FOR v_unit IN SELECT DISTINCT (o ->> 'unit')::integer FROM jsonb_array_elements(p_objects) o ORDER BY 1 LOOP
      CONTINUE WHEN verdicts[v_unit] <> 0 OR v_replay[v_unit];
      BEGIN
        FOR v_object IN SELECT o FROM jsonb_array_elements(p_objects) o WHERE (o ->> 'unit')::integer = v_unit LOOP
          PERFORM log_insert_key(p_tenants[v_unit], v_object);
        END LOOP;
        IF NOT log_count_unit(p_tenants[v_unit], v_unit, p_count_unit, p_count_keys, p_count_n, p_count_limit) THEN
          RAISE EXCEPTION 'log_append: count' USING ERRCODE = 'KT005';
        END IF;
        v_counted[v_unit] := true;
      EXCEPTION
        WHEN SQLSTATE 'KT004' OR unique_violation THEN verdicts[v_unit] := 4;
        WHEN SQLSTATE 'KT005' THEN verdicts[v_unit] := 5;
      END;
    END LOOP;
  END IF;

  -- Message counts, all at once unless one of them is unknown or would pass its limit.
  IF v_effects AND cardinality(p_count_unit) > 0 THEN
    WITH want AS MATERIALIZED (
      SELECT p_tenants[c.unit] AS tenant_id, substr(p_count_keys, (c.i::integer - 1) * 16 + 1, 16) AS key_id, sum(c.n) AS n, min(c.lim) AS lim
      FROM unnest(p_count_unit, p_count_n, p_count_limit) WITH ORDINALITY c (unit, n, lim, i)
      WHERE verdicts[c.unit] = 0 AND NOT v_replay[c.unit] AND v_counted[c.unit] IS NULL
      GROUP BY 1, 2
    ), held AS MATERIALIZED (
      SELECT w.*, k.key_id IS NOT NULL AND k.sealed_count + w.n <= w.lim AS room
      FROM want w LEFT JOIN key_record k ON k.tenant_id = w.tenant_id AND k.key_id = w.key_id
    ), counted AS (
      UPDATE key_record k SET sealed_count = k.sealed_count + h.n
      FROM held h
      WHERE k.tenant_id = h.tenant_id AND k.key_id = h.key_id AND (SELECT bool_and(room) FROM held)
    )
    SELECT NOT coalesce(bool_and(room), true) INTO v_full FROM held;
    IF v_full THEN
      FOR v_unit IN SELECT DISTINCT c.unit FROM unnest(p_count_unit) c (unit) ORDER BY 1 LOOP
        CONTINUE WHEN verdicts[v_unit] <> 0 OR v_replay[v_unit] OR v_counted[v_unit];
        IF NOT log_count_unit(p_tenants[v_unit], v_unit, p_count_unit, p_count_keys, p_count_n, p_count_limit) THEN
          verdicts[v_unit] := 5;
        END IF;
      END LOOP;
    END IF;
  END IF;

  -- Indices and hashes; what is present or refused takes none.
  SELECT array_agg(u.length_sum - u.length ORDER BY u.n) INTO v_offsets
    FROM (SELECT n, length, sum(length) OVER (ORDER BY n)::integer AS length_sum FROM unnest(p_lengths) WITH ORDINALITY r (length, n)) u;
  WITH input AS MATERIALIZED (
    SELECT r.n, v_unit_head[r.unit] AS head, r.eid, r.present, s.leaf, sha256('\x00'::bytea || s.leaf) AS hash,
      r.present IS NOT NULL OR (r.guarded AND verdicts[r.unit] <> 0) AS skipped
    FROM unnest(p_row_unit, p_row_guarded, v_eids, v_present, v_offsets, p_lengths) WITH ORDINALITY
        r (unit, guarded, eid, present, start, length, n)
      CROSS JOIN LATERAL (SELECT substr(p_leaves, r.start + 1, r.length) AS leaf OFFSET 0) s
  ), numbered AS MATERIALIZED (
    SELECT r.*, CASE WHEN r.skipped THEN r.present
      ELSE v_sizes[r.head] + row_number() OVER (PARTITION BY r.head, r.skipped ORDER BY r.n) - 1 END AS leaf_index
    FROM input r
  ), appended AS (
    INSERT INTO log_leaf (tenant_id, leaf_index, eid, committed_at, leaf_hash, leaf)
    SELECT v_heads[n.head], n.leaf_index, n.eid, v_now, n.hash, n.leaf FROM numbered n WHERE NOT n.skipped
  )
  SELECT array_agg(n.leaf_index ORDER BY n.n),
      string_agg(CASE WHEN n.leaf_index IS NULL THEN '\x0000000000000000000000000000000000000000000000000000000000000000' ELSE n.hash END, '' ORDER BY n.n),
      array_agg(n.head ORDER BY n.head, n.n) FILTER (WHERE NOT n.skipped),
      string_agg(n.hash, '' ORDER BY n.head, n.n) FILTER (WHERE NOT n.skipped)
    INTO indices, hashes, v_order_head, v_order_hash
    FROM numbered n;

  -- Frontiers: a leaf joins the perfect subtrees on its left, one for each trailing one bit of the size before it.
  v_last := 0;
  FOR i IN 1 .. coalesce(cardinality(v_order_head), 0) LOOP
    v_head := v_order_head[i];
    IF v_head <> v_last THEN
      IF v_last > 0 THEN
        v_frontiers[v_last] := substr(v_frontier, 1, v_top);
      END IF;
      v_last := v_head;
      v_frontier := v_frontiers[v_head];
      v_top := octet_length(v_frontier);
    END IF;
    v_hash := substr(v_order_hash, i * 32 - 31, 32);
    v_bits := v_sizes[v_head];
    WHILE v_bits & 1 = 1 LOOP
      v_hash := sha256('\x01'::bytea || substr(v_frontier, v_top - 31, 32) || v_hash);
      v_top := v_top - 32;
      v_bits := v_bits >> 1;
    END LOOP;
    v_frontier := substr(v_frontier, 1, v_top) || v_hash;
    v_top := v_top + 32;
    v_sizes[v_head] := v_sizes[v_head] + 1;
  END LOOP;
  IF v_last > 0 THEN
    v_frontiers[v_last] := v_frontier;
    UPDATE log_head h SET size = w.size, frontier = w.frontier, committed_at = v_now
      FROM unnest(v_heads, v_sizes, v_frontiers) w (tenant_id, size, frontier)
      WHERE h.tenant_id = w.tenant_id AND h.size <> w.size;
  END IF;

  IF v_effects AND 1 = ANY (p_kinds) THEN
    INSERT INTO flight (tenant_id, intent_eid, intent_index, entry, writer, opened_at)
      SELECT p_tenants[r.unit], v_eids[r.n], indices[r.n], substr(p_entries, (r.unit - 1) * 32 + 1, 32), p_writer, v_now
      FROM (SELECT unit, min(n)::integer AS n FROM unnest(p_row_unit) WITH ORDINALITY s (unit, n) GROUP BY unit) r
      WHERE p_kinds[r.unit] = 1 AND verdicts[r.unit] = 0 AND NOT v_replay[r.unit] AND indices[r.n] IS NOT NULL
      ON CONFLICT DO NOTHING;
  END IF;
  IF v_effects AND 2 = ANY (p_kinds) THEN
    UPDATE flight f SET state = w.result
      FROM (
        SELECT u.tenant, encode(substr(p_flights, (u.n::integer - 1) * 16 + 1, 16), 'hex')::uuid AS eid, max(u.result) AS result
        FROM unnest(p_tenants, p_kinds, p_results) WITH ORDINALITY u (tenant, kind, result, n)
        WHERE u.kind = 2 AND NOT v_replay[u.n]
        GROUP BY 1, 2
      ) w
      WHERE f.tenant_id = w.tenant AND f.intent_eid = w.eid AND f.state < w.result;
    IF 2 = ANY (p_results) THEN
      INSERT INTO fence AS e (tenant_id, entry, refused_index)
        SELECT f.tenant_id, f.entry, max(f.intent_index)
        FROM unnest(p_tenants, p_kinds, p_results) WITH ORDINALITY u (tenant, kind, result, n)
        JOIN flight f ON f.tenant_id = u.tenant AND f.intent_eid = encode(substr(p_flights, (u.n::integer - 1) * 16 + 1, 16), 'hex')::uuid
        WHERE u.kind = 2 AND u.result = 2
        GROUP BY f.tenant_id, f.entry
        ORDER BY f.tenant_id, f.entry
        ON CONFLICT (tenant_id, entry) DO UPDATE SET refused_index = greatest(e.refused_index, EXCLUDED.refused_index);
    END IF;
  END IF;
  committed_ms := floor(extract(epoch FROM v_now) * 1000);
END
$function$
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Appends units of leaves. A unit has one tenant and is judged as a whole: its guarded rows, new keys and counts happen only on verdict 0 (1 intent closed or unknown, 2 fenced by a later refusal, 3 tenant state moved, 4 root or head moved, 5 count exceeded). Idempotent by event id. Kinds: 0 plain, 1 intent, 2 outcome of a flight (result 1 ok, 2 refused, 3 other).

CREATE OR REPLACE FUNCTION keytether.log_count_unit(p_tenant text, p_unit integer, p_count_unit integer[], p_count_keys bytea, p_count_n bigint[], p_count_limit bigint[])
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'keytether', 'pg_temp'
AS $function$
BEGIN
  IF EXISTS (
    SELECT 1
    FROM (
      SELECT substr(p_count_keys, (c.i::integer - 1) * 16 + 1, 16) AS key_id, sum(c.n) AS n, min(c.lim) AS lim
      FROM unnest(p_count_unit, p_count_n, p_count_limit) WITH ORDINALITY c (unit, n, lim, i)
      WHERE c.unit = p_unit GROUP BY 1
    ) w
    LEFT JOIN key_record k ON k.tenant_id = p_tenant AND k.key_id = w.key_id
    WHERE k.key_id IS NULL OR k.sealed_count + w.n > w.lim
  ) THEN
    RETURN false;
  END IF;
  UPDATE key_record k SET sealed_count = k.sealed_count + w.n
    FROM (
      SELECT substr(p_count_keys, (c.i::integer - 1) * 16 + 1, 16) AS key_id, sum(c.n) AS n
      FROM unnest(p_count_unit, p_count_n) WITH ORDINALITY c (unit, n, i)
      WHERE c.unit = p_unit GROUP BY 1
    ) w
    WHERE k.tenant_id = p_tenant AND k.key_id = w.key_id;
  RETURN true;
END
$function$
OWNER keytether_log
GRANT keytether_log=X/keytether_log
-- Part of log_append.

CREATE OR REPLACE FUNCTION keytether.log_insert_key(p_tenant text, p_object jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'keytether', 'pg_temp'
AS $function$
DECLARE
  v_record jsonb := p_object -> 'record';
  v_head jsonb := p_object -> 'head';
BEGIN
  PERFORM 1 FROM head h
    WHERE h.tenant_id = p_tenant AND h.scope = v_record ->> 'scope' AND h.purpose = ''
      AND h.current_key = decode(p_object ->> 'parent_root', 'hex')
    FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'log_append: the root has moved' USING ERRCODE = 'KT004';
  END IF;
  IF p_object ->> 'expect_head_generation' IS NULL THEN
    INSERT INTO head (tenant_id, scope, purpose, current_key, generation, object)
      VALUES (p_tenant, v_record ->> 'scope', v_record ->> 'purpose', decode(v_record ->> 'key_id', 'hex'),
        (v_head ->> 'generation')::bigint, decode(v_head ->> 'object', 'hex'))
      ON CONFLICT DO NOTHING;
  ELSE
    UPDATE head h SET current_key = decode(v_record ->> 'key_id', 'hex'), generation = (v_head ->> 'generation')::bigint,
        object = decode(v_head ->> 'object', 'hex')
      WHERE h.tenant_id = p_tenant AND h.scope = v_record ->> 'scope' AND h.purpose = v_record ->> 'purpose'
        AND h.generation = (p_object ->> 'expect_head_generation')::bigint;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'log_append: the head has moved' USING ERRCODE = 'KT004';
  END IF;
  INSERT INTO key_record (tenant_id, key_id, scope, purpose, kind, key_version, generation, wrapper_ids, immutable, mutable)
    VALUES (p_tenant, decode(v_record ->> 'key_id', 'hex'), v_record ->> 'scope', v_record ->> 'purpose', 2,
      (v_record ->> 'key_version')::integer, (v_record ->> 'generation')::bigint,
      ARRAY(SELECT decode(w, 'hex') FROM jsonb_array_elements_text(v_record -> 'wrapper_ids') w),
      decode(v_record ->> 'immutable', 'hex'), decode(v_record ->> 'mutable', 'hex'));
END
$function$
OWNER keytether_log
GRANT keytether_log=X/keytether_log
-- Part of log_append.

CREATE OR REPLACE FUNCTION keytether.log_lock(p_tenants text[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
AS $function$
BEGIN
  PERFORM 1 FROM log_head WHERE tenant_id = ANY (p_tenants) ORDER BY tenant_id FOR UPDATE;
END
$function$
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Takes the log order of these tenants for the rest of the transaction. A transaction that changes other rows takes it first, so that it cannot deadlock with an append.

CREATE OR REPLACE FUNCTION keytether.log_publish(p_tenant text, p_size bigint, p_note text, p_vkey text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
AS $function$
DECLARE
  v_now timestamptz := clock_timestamp();
BEGIN
  INSERT INTO log_published AS p (tenant_id, size, vkey, at)
    SELECT h.tenant_id, p_size, p_vkey, v_now FROM log_head h WHERE h.tenant_id = p_tenant AND h.size >= p_size
    ON CONFLICT (tenant_id) DO UPDATE SET size = EXCLUDED.size, vkey = EXCLUDED.vkey, at = EXCLUDED.at WHERE p.size <= EXCLUDED.size;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO log_checkpoint (tenant_id, size, note, at) VALUES (p_tenant, p_size, p_note, v_now)
    ON CONFLICT (tenant_id, size) DO UPDATE SET note = EXCLUDED.note, at = EXCLUDED.at;
  DELETE FROM log_checkpoint WHERE tenant_id = p_tenant AND size < p_size AND at >= date_trunc('hour', v_now);
  RETURN true;
END
$function$
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Stores a checkpoint unless a larger one is there or the tree is smaller (false). It replaces those of the same hour.

CREATE OR REPLACE FUNCTION keytether.log_published_trees(p_after text, p_limit integer)
 RETURNS TABLE(tenant_id text, published bigint, vkey text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
BEGIN ATOMIC
 SELECT p.tenant_id,
     p.size,
     p.vkey
    FROM keytether.log_published p
   WHERE (p.tenant_id > log_published_trees.p_after)
   ORDER BY p.tenant_id
  LIMIT log_published_trees.p_limit;
END
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Trees that have a checkpoint, in the order of their tenants' ids.

CREATE OR REPLACE FUNCTION keytether.log_tile_grow(p_tenant text, p_limit integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
AS $function$
DECLARE
  v_hashes_below bigint;
  v_level smallint := 0;
  v_next bigint;
  v_left integer := p_limit;
  v_tile bytea;
  v_root bytea;
BEGIN
  SELECT size INTO v_hashes_below FROM log_head WHERE tenant_id = p_tenant;
  WHILE v_hashes_below >= 256 LOOP
    SELECT coalesce(max(n) + 1, 0) INTO v_next FROM log_tile WHERE tenant_id = p_tenant AND level = v_level;
    WHILE v_next < v_hashes_below / 256 LOOP
      IF v_left = 0 THEN
        RETURN false;
      END IF;
      IF v_level = 0 THEN
        SELECT string_agg(leaf_hash, '' ORDER BY leaf_index) INTO v_tile FROM log_leaf
          WHERE tenant_id = p_tenant AND leaf_index >= v_next * 256 AND leaf_index < (v_next + 1) * 256;
      ELSE
        SELECT string_agg(root, '' ORDER BY n) INTO v_tile FROM log_tile
          WHERE tenant_id = p_tenant AND level = v_level - 1 AND n >= v_next * 256 AND n < (v_next + 1) * 256;
      END IF;
      v_root := v_tile;
      FOR i IN 1 .. 8 LOOP
        SELECT string_agg(sha256('\x01'::bytea || substr(v_root, p * 64 + 1, 64)), '' ORDER BY p) INTO v_root
          FROM generate_series(0, octet_length(v_root) / 64 - 1) p;
      END LOOP;
      INSERT INTO log_tile (tenant_id, level, n, hashes, root) VALUES (p_tenant, v_level, v_next, v_tile, v_root) ON CONFLICT DO NOTHING;
      v_next := v_next + 1;
      v_left := v_left - 1;
    END LOOP;
    v_hashes_below := v_next;
    v_level := v_level + 1;
  END LOOP;
  RETURN true;
END
$function$
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Writes the full tiles that a tree lacks, at most so many; true when none is missing. Repeating it changes nothing.

CREATE OR REPLACE FUNCTION keytether.log_unpublished(p_limit integer, p_except text[])
 RETURNS TABLE(tenant_id text, published bigint, vkey text, waiting_ms bigint)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
BEGIN ATOMIC
 SELECT g.tenant_id,
     g.published,
     g.vkey,
     (floor((EXTRACT(epoch FROM (clock_timestamp() - ( SELECT l.committed_at
            FROM keytether.log_leaf l
           WHERE ((l.tenant_id = g.tenant_id) AND (l.leaf_index = g.published))))) * (1000)::numeric)))::bigint AS floor
    FROM ( SELECT h.tenant_id,
             COALESCE(p.size, (0)::bigint) AS published,
             COALESCE(p.vkey, ''::text) AS vkey,
             p.at
            FROM (keytether.log_head h
              LEFT JOIN keytether.log_published p ON ((p.tenant_id = h.tenant_id)))
           WHERE ((h.size <> COALESCE(p.size, (0)::bigint)) AND (h.tenant_id <> ALL (log_unpublished.p_except)))
           ORDER BY p.at NULLS FIRST, h.tenant_id
          LIMIT log_unpublished.p_limit) g
   ORDER BY g.at NULLS FIRST, g.tenant_id;
END
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Trees whose size is not that of their newest checkpoint, the longest published first, with the age of the first leaf that no checkpoint covers (null where the tree is smaller than its checkpoint).

CREATE OR REPLACE FUNCTION keytether.principal_read(p_ids text[])
 RETURNS TABLE(tenant_id text, principal_id text, role text, name text, scopes text[], purposes text[], expires_ms bigint, state text, secret_sha256 bytea, auth_id text, mac bytea, created_ms bigint, tenant_state text, state_version bigint)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
BEGIN ATOMIC
 SELECT p.tenant_id,
     p.principal_id,
     p.role,
     p.name,
     p.scopes,
     p.purposes,
     p.expires_ms,
     p.state,
     p.secret_sha256,
     p.auth_id,
     p.mac,
     p.created_ms,
     t.state,
     t.state_version
    FROM (keytether.principal p
      JOIN keytether.tenant t USING (tenant_id))
   WHERE (p.principal_id = ANY (principal_read.p_ids));
END
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- Principals by id, before their tenant is known, with the tenant's state in the same snapshot.

CREATE OR REPLACE FUNCTION keytether.round_read(p_tenant text, p_scopes text[], p_head_scopes text[], p_head_purposes text[], p_key_ids bytea[])
 RETURNS TABLE(what text, scope text, purpose text, id bytea, kind smallint, version bigint, generation bigint, sealed_count bigint, wrapper_ids bytea[], object bytea, mutable bytea)
 LANGUAGE plpgsql
 SET search_path TO 'keytether', 'pg_temp'
AS $function$
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
$function$
OWNER of the schema
GRANT keytether_app=X/owner
-- Tenant state, heads, the records that they or the ids name, the roots which wrap those, and the bindings that wrap the roots. Sees one tenant, by row-level security.

CREATE OR REPLACE FUNCTION keytether.tenant_create(p_tenant text, p_name text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
BEGIN ATOMIC
 INSERT INTO keytether.tenant (tenant_id, name)
   VALUES (tenant_create.p_tenant, tenant_create.p_name);
 INSERT INTO keytether.log_head (tenant_id)
   VALUES (tenant_create.p_tenant);
END
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- A tenant and its empty log.

CREATE OR REPLACE FUNCTION keytether.tenant_list()
 RETURNS TABLE(tenant_id text, name text, state text, state_version bigint, created_ms bigint, log_size bigint)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'keytether', 'pg_temp'
BEGIN ATOMIC
 SELECT t.tenant_id,
     t.name,
     t.state,
     t.state_version,
     (floor((EXTRACT(epoch FROM t.created_at) * (1000)::numeric)))::bigint AS floor,
     h.size
    FROM (keytether.tenant t
      JOIN keytether.log_head h USING (tenant_id))
   ORDER BY t.tenant_id;
END
OWNER keytether_log
GRANT keytether_app=X/keytether_log
GRANT keytether_log=X/keytether_log
-- What the operator may know of every tenant.
