-- breaking: no
-- What a tree publishes: signed checkpoints and full tiles. The append function is not touched: everything here reads what
-- it has committed.

CREATE TABLE keytether.log_checkpoint (
  tenant_id text NOT NULL,
  size bigint NOT NULL,
  note text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT log_checkpoint_pkey PRIMARY KEY (tenant_id, size),
  CONSTRAINT log_checkpoint_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant,
  CONSTRAINT log_checkpoint_size CHECK (size > 0)
);
COMMENT ON TABLE keytether.log_checkpoint IS 'Signed checkpoints: the newest of each tree, and the last one of each hour before.';
COMMENT ON COLUMN keytether.log_checkpoint.note IS 'The signed note, byte for byte.';
COMMENT ON COLUMN keytether.log_checkpoint.at IS 'By the database''s clock.';

CREATE TABLE keytether.log_published (
  tenant_id text NOT NULL,
  size bigint NOT NULL,
  vkey text NOT NULL,
  at timestamptz NOT NULL,
  CONSTRAINT log_published_pkey PRIMARY KEY (tenant_id),
  CONSTRAINT log_published_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant
) WITH (fillfactor = 50);
COMMENT ON TABLE keytether.log_published IS 'How far each tree is published: a small copy of its newest checkpoint''s place, so that finding the trees that grew reads no history.';
COMMENT ON COLUMN keytether.log_published.size IS 'Size of the newest checkpoint.';
COMMENT ON COLUMN keytether.log_published.vkey IS 'Verifier key (c2sp.org/signed-note) of the key that signed it first.';

CREATE TABLE keytether.log_tile (
  tenant_id text NOT NULL,
  level smallint NOT NULL,
  n bigint NOT NULL,
  hashes bytea NOT NULL,
  root bytea NOT NULL,
  CONSTRAINT log_tile_pkey PRIMARY KEY (tenant_id, level, n),
  CONSTRAINT log_tile_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES keytether.tenant,
  CONSTRAINT log_tile_full CHECK (octet_length(hashes) = 8192),
  CONSTRAINT log_tile_root_length CHECK (octet_length(root) = 32)
);
ALTER TABLE keytether.log_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;
ALTER TABLE keytether.log_tile ALTER COLUMN root SET STORAGE PLAIN;
COMMENT ON TABLE keytether.log_tile IS 'Full tiles (c2sp.org/tlog-tiles), written by log_tile_grow; they never change. Dense from 0 in each level.';
COMMENT ON COLUMN keytether.log_tile.level IS '0: the hashes are leaf hashes; above, each is the root of a full tile of the level below.';
COMMENT ON COLUMN keytether.log_tile.hashes IS '256 hashes of 32 bytes.';
COMMENT ON COLUMN keytether.log_tile.root IS 'Merkle root of the 256 hashes: one hash of the level above.';

DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['log_checkpoint', 'log_published', 'log_tile'] LOOP
    EXECUTE format('ALTER TABLE keytether.%I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE keytether.%I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format(
      'CREATE POLICY one_tenant ON keytether.%I TO keytether_app USING (tenant_id = NULLIF(current_setting(''keytether.tenant'', true), ''''))
        WITH CHECK (tenant_id = NULLIF(current_setting(''keytether.tenant'', true), ''''))', t);
    EXECUTE format('CREATE POLICY functions ON keytether.%I TO keytether_log USING (true) WITH CHECK (true)', t);
  END LOOP;
END
$$;

GRANT SELECT ON keytether.log_checkpoint, keytether.log_published, keytether.log_tile TO keytether_app;
GRANT SELECT, INSERT, DELETE, UPDATE (note, at) ON keytether.log_checkpoint TO keytether_log;
GRANT SELECT, INSERT, UPDATE (size, vkey, at) ON keytether.log_published TO keytether_log;
GRANT SELECT, INSERT ON keytether.log_tile TO keytether_log;

CREATE FUNCTION keytether.log_unpublished(p_limit integer, p_except text[])
RETURNS TABLE (tenant_id text, published bigint, vkey text, waiting_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = keytether, pg_temp
BEGIN ATOMIC
  SELECT g.tenant_id, g.published, g.vkey,
    floor(extract(epoch FROM clock_timestamp() - (
      SELECT l.committed_at FROM keytether.log_leaf l WHERE l.tenant_id = g.tenant_id AND l.leaf_index = g.published
    )) * 1000)::bigint
  FROM (
    SELECT h.tenant_id, coalesce(p.size, 0) AS published, coalesce(p.vkey, '') AS vkey, p.at
    FROM keytether.log_head h LEFT JOIN keytether.log_published p ON p.tenant_id = h.tenant_id
    WHERE h.size <> coalesce(p.size, 0) AND h.tenant_id <> ALL (p_except)
    ORDER BY p.at NULLS FIRST, h.tenant_id
    LIMIT p_limit
  ) g
  ORDER BY g.at NULLS FIRST, g.tenant_id;
END;
COMMENT ON FUNCTION keytether.log_unpublished IS
  'Trees whose size is not that of their newest checkpoint, the longest published first, with the age of the first leaf that no checkpoint covers (null where the tree is smaller than its checkpoint).';

CREATE FUNCTION keytether.log_published_trees(p_after text, p_limit integer)
RETURNS TABLE (tenant_id text, published bigint, vkey text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = keytether, pg_temp
BEGIN ATOMIC
  SELECT p.tenant_id, p.size, p.vkey FROM keytether.log_published p
  WHERE p.tenant_id > p_after ORDER BY p.tenant_id LIMIT p_limit;
END;
COMMENT ON FUNCTION keytether.log_published_trees IS 'Trees that have a checkpoint, in the order of their tenants'' ids.';

CREATE FUNCTION keytether.log_tile_grow(p_tenant text, p_limit integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = keytether, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION keytether.log_tile_grow IS
  'Writes the full tiles that a tree lacks, at most so many; true when none is missing. Repeating it changes nothing.';

CREATE FUNCTION keytether.log_publish(p_tenant text, p_size bigint, p_note text, p_vkey text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = keytether, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION keytether.log_publish IS
  'Stores a checkpoint unless a larger one is there or the tree is smaller (false). It replaces those of the same hour.';

GRANT CREATE ON SCHEMA keytether TO keytether_log;
DO $$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'keytether'::regnamespace
      AND p.proname IN ('log_unpublished', 'log_published_trees', 'log_tile_grow', 'log_publish') LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO keytether_log', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO keytether_app', f);
  END LOOP;
END
$$;
REVOKE CREATE ON SCHEMA keytether FROM keytether_log;
