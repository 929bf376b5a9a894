-- breaking: yes
-- The one way into the log. It alone decides what may be appended, in the order of the log itself.

-- Adds n messages to the counts of the keys that one unit uses; false, and nothing changed, when a key is unknown or full.
CREATE FUNCTION keytether.log_count_unit(p_tenant text, p_unit integer, p_count_unit integer[], p_count_keys bytea, p_count_n bigint[],
  p_count_limit bigint[]) RETURNS boolean
LANGUAGE plpgsql SET search_path = keytether, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION keytether.log_count_unit IS 'Part of log_append.';

-- Inserts one data key and makes it current; raises KT004 when its root or its head has moved.
CREATE FUNCTION keytether.log_insert_key(p_tenant text, p_object jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = keytether, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION keytether.log_insert_key IS 'Part of log_append.';


CREATE FUNCTION keytether.log_append(
  p_leaves bytea, p_lengths integer[], p_eids bytea, p_row_unit integer[], p_row_guarded boolean[],
  p_tenants text[], p_kinds smallint[], p_results smallint[], p_flights bytea, p_entries bytea, p_state_versions bigint[],
  p_writer uuid, p_objects jsonb, p_count_unit integer[], p_count_keys bytea, p_count_n bigint[], p_count_limit bigint[],
  OUT indices bigint[], OUT verdicts smallint[], OUT hashes bytea, OUT committed_ms bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = keytether, pg_temp
SET lock_timeout = '1500ms'
-- Every lookup here is by key and every table grows. A plan that was made while they were small and is kept would read them whole.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
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
$$;
COMMENT ON FUNCTION keytether.log_append IS
  'Appends units of leaves. A unit has one tenant and is judged as a whole: its guarded rows, new keys and counts happen only on verdict 0 (1 intent closed or unknown, 2 fenced by a later refusal, 3 tenant state moved, 4 root or head moved, 5 count exceeded). Idempotent by event id. Kinds: 0 plain, 1 intent, 2 outcome of a flight (result 1 ok, 2 refused, 3 other).';

-- The functions of the log belong to keytether_log; the service may call them and nothing else of the log.
GRANT CREATE ON SCHEMA keytether TO keytether_log;
DO $$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'keytether'::regnamespace
      AND (p.prosecdef OR p.proname IN ('log_count_unit', 'log_insert_key')) LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO keytether_log', f);
  END LOOP;
END
$$;
REVOKE CREATE ON SCHEMA keytether FROM keytether_log;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA keytether FROM PUBLIC;
DO $$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'keytether'::regnamespace
      AND p.proname NOT IN ('log_count_unit', 'log_insert_key') LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO keytether_app', f);
  END LOOP;
END
$$;
