"""The sections of the risk snapshot as SQL: each is a sub-select that gives one JSON value, money as text.

``STOPS`` and ``TRUST`` are the sections that are read again right before the send. ``COMMON`` comes before all: the
limits that apply now, since how far back recent orders count is itself a limit.
"""

from __future__ import annotations

from backend.tradingbot.execution.order_state import OPEN

OPEN_WORDS = ", ".join(f"'{status}'" for status in sorted(OPEN))  # literal, so that the partial index fits
# what counts as working: what is open, and what was given up and is still watched
COUNTED = f"(status IN ({OPEN_WORDS}) OR watch_until IS NOT NULL)"
# what was given up keeps its exposure and frees its symbol: an order that is not there keeps nobody in a position
MAY_MEET = "watch_until IS NULL"

COMMON = """
    WITH limits AS MATERIALIZED (
      SELECT DISTINCT ON (scope, kind) scope, kind, value, version FROM tradingbot_limitversion
      WHERE scope = ANY(%(limit_scopes)s) AND state = 'in_force' AND effective_from <= %(now)s
      ORDER BY scope, kind, version DESC),
    windows AS MATERIALIZED (
      SELECT make_interval(secs => max(value) FILTER (WHERE kind = 'duplicate_window_seconds')::float) AS duplicate,
        make_interval(secs => max(value) FILTER (WHERE kind = 'repeat_window_seconds')::float) AS repeat
      FROM limits)"""

ROOM = (
    """jsonb_build_object('reserved', reserved::text, 'low', low::text[], 'high', high::text[], 'unknown', unknown)"""
)
STOPS = {
    "breakers": """
        SELECT coalesce(jsonb_agg(jsonb_build_object('scope', scope, 'reason', reason,
          'open', tripped_at IS NOT NULL, 'evaluated_at', evaluated_at, 'reset_at', reset_at,
          'ramp_sec', ramp_sec::text, 'ramp_start_pct', ramp_start_pct::text) ORDER BY scope), '[]')
        FROM tradingbot_breaker WHERE scope = ANY(%(scopes)s)""",
    "trading_states": """
        SELECT coalesce(jsonb_agg(jsonb_build_object('scope', scope, 'state', state, 'reason', reason)
          ORDER BY scope), '[]')
        FROM tradingbot_tradingstate WHERE scope = ANY(%(scopes)s)""",
    "data_stops": """
        SELECT coalesce(jsonb_agg(jsonb_build_object('symbol', symbol, 'check', check_name, 'source', source,
          'since', since, 'evidence', evidence::text) ORDER BY id), '[]')
        FROM tradingbot_datastop WHERE symbol = ANY(%(data_symbols)s) AND released_at IS NULL""",
}
TRUST = {
    "trust": """
        SELECT jsonb_build_object('mode', mode, 'withdrawn', withdrawn_at IS NOT NULL) FROM tradingbot_strategybuild
        WHERE strategy_id = %(strategy)s AND build_id = %(strategy_build)s""",
}

EXPOSURE = {
    "position": """
        SELECT to_jsonb(qty::text) FROM tradingbot_position WHERE account_id = %(account)s AND symbol = %(symbol)s""",
    "working": f"""
        SELECT jsonb_build_object(
          'buys', coalesce(sum(qty - filled_qty) FILTER (WHERE side = 'buy'), 0)::text,
          'sells', coalesce(sum(qty - filled_qty) FILTER (WHERE side = 'sell'), 0)::text,
          'strategy_buys', coalesce(
            sum(qty - filled_qty) FILTER (WHERE side = 'buy' AND strategy_id = %(strategy)s), 0)::text,
          'strategy_sells', coalesce(
            sum(qty - filled_qty) FILTER (WHERE side = 'sell' AND strategy_id = %(strategy)s), 0)::text,
          'doubtful', count(*) FILTER (WHERE status = 'in_doubt' OR status = 'pending_submit' AND send_by < %(now)s),
          'lowest_sell', (min(limit_price) FILTER (WHERE side = 'sell' AND {MAY_MEET}))::text,
          'highest_buy', (max(limit_price) FILTER (WHERE side = 'buy' AND {MAY_MEET}))::text,
          'unpriced_sells', count(*) FILTER (WHERE side = 'sell' AND limit_price IS NULL AND {MAY_MEET}),
          'unpriced_buys', count(*) FILTER (WHERE side = 'buy' AND limit_price IS NULL AND {MAY_MEET}))
        FROM tradingbot_order WHERE account_id = %(account)s AND symbol = %(symbol)s
          AND {COUNTED} AND qty > 0 AND client_order_id <> %(client_order_id)s""",
    "sums": """
        SELECT jsonb_build_object('gross', gross::text, 'short', short::text, 'low', low::text[], 'high', high::text[],
          'unknown', unknown, 'unstressed', unstressed, 'oldest_greeks', oldest_greeks)
        FROM tradingbot_accountexposure WHERE account_id = %(account)s""",
    "name": """
        SELECT jsonb_build_object('gross', gross::text, 'short', short::text, 'low', low::text[], 'high', high::text[],
          'known', known, 'stressed', stressed, 'unit', unit, 'supplied', supplied, 'supplied_at', supplied_at,
          'supplied_by', supplied_by)
        FROM tradingbot_nameexposure WHERE account_id = %(account)s AND symbol = %(symbol)s""",
    "strategy_part": """
        SELECT jsonb_build_object('position', position::text, 'gross', gross::text, 'low', low::text[],
          'high', high::text[], 'known', known) FROM tradingbot_strategyexposure
        WHERE account_id = %(account)s AND strategy_id = %(strategy)s AND symbol = %(symbol)s""",
}

MINE = "account_id = %(account)s AND strategy_id = %(strategy)s"
OTHER_NAMES = """(SELECT array_agg(total::text ORDER BY place) FROM (
            SELECT place, sum(figure) AS total FROM tradingbot_shadowname AS name,
              unnest(name.{side}) WITH ORDINALITY AS part(figure, place)
            WHERE {mine} AND symbol <> %(symbol)s GROUP BY place) AS sums)"""
MODE = {
    "mode": f"""
        SELECT jsonb_build_object('mode', build.mode, 'withdrawn', build.withdrawn_at IS NOT NULL,
          'demoted', build.demoted, 'flat', CASE WHEN build.demoted THEN NOT EXISTS (
              SELECT 1 FROM tradingbot_strategyexposure WHERE strategy_id = %(strategy)s AND position <> 0)
            AND NOT EXISTS (
              SELECT 1 FROM tradingbot_order WHERE strategy_id = %(strategy)s AND qty > 0 AND {COUNTED}
                AND client_order_id <> %(client_order_id)s)
            ELSE true END,
          'allocation', trim_scale(canary_allocation)::text, 'lot', trim_scale(canary_lot)::text,
          'at_least_one_lot', canary_at_least_one_lot, 'max_orders', canary_max_orders,
          'max_notional', trim_scale(canary_max_notional)::text, 'max_loss', trim_scale(canary_max_loss)::text)
        FROM tradingbot_strategybuild AS build JOIN tradingbot_strategy AS strategy ON strategy.id = build.strategy_id
        WHERE strategy_id = %(strategy)s AND build_id = %(strategy_build)s""",
    "canary_day": f"""
        SELECT jsonb_build_object('orders', orders, 'notional', notional::text, 'loss', loss::text)
        FROM tradingbot_canaryday WHERE {MINE} AND session = %(session)s""",
    "shadow_name": f"""
        SELECT jsonb_build_object('position', position::text, 'buys', buys::text, 'sells', sells::text)
        FROM tradingbot_shadowname WHERE {MINE} AND symbol = %(symbol)s""",
    "shadow_rest": f"""
        SELECT jsonb_build_object('spent', sum(spent)::text, 'reserved', sum(reserved)::text,
          'gross', coalesce(sum(gross) FILTER (WHERE symbol <> %(symbol)s), 0)::text,
          'short', coalesce(sum(short) FILTER (WHERE symbol <> %(symbol)s), 0)::text,
          'low', {OTHER_NAMES.format(side="low", mine=MINE)},
          'high', {OTHER_NAMES.format(side="high", mine=MINE)})
        FROM tradingbot_shadowname WHERE {MINE} HAVING count(*) > 0""",
}

SECTIONS = {
    **STOPS,
    **EXPOSURE,
    **MODE,
    "limits": """
        SELECT coalesce(jsonb_agg(jsonb_build_array(scope, kind, trim_scale(value)::text, version)
          ORDER BY scope, kind), '[]')
        FROM limits WHERE value IS NOT NULL""",
    "feeds": """
        SELECT coalesce(jsonb_agg(jsonb_build_object('code', code, 'last_seen_at', last_seen_at,
          'max_silence_seconds', max_silence_seconds) ORDER BY code), '[]')
        FROM tradingbot_feed WHERE active AND symbols && %(data_symbols)s::varchar[]""",
    "headroom": f"""
        SELECT coalesce(jsonb_object_agg(scope, {ROOM}), '{{}}') FROM tradingbot_sharedheadroom
        WHERE scope = ANY(%(shared_scopes)s)""",
    "oldest_greeks": """
        SELECT to_jsonb(min(oldest_greeks)) FROM tradingbot_accountexposure WHERE EXISTS (
          SELECT 1 FROM limits WHERE scope = ANY(%(shared_scopes)s) AND kind LIKE 'portfolio%%')""",
    "recent": """
        SELECT jsonb_build_object(
          'duplicates', count(*) FILTER (
            WHERE limit_price IS NOT DISTINCT FROM %(limit_price)s AND created_at > %(now)s - windows.duplicate),
          'repeats', count(*) FILTER (WHERE created_at > %(now)s - windows.repeat AND created_at > coalesce((
            SELECT max(enabled_at) FROM tradingbot_disabledpattern AS pattern
            WHERE pattern.account_id = %(account)s AND pattern.strategy_id = %(strategy)s
              AND pattern.symbol = %(symbol)s AND pattern.side = %(side)s AND pattern.qty = %(qty)s), '-infinity')))
        FROM tradingbot_order AS lately, windows
        WHERE account_id = %(account)s AND symbol = %(symbol)s AND strategy_id = %(strategy)s
          AND side = %(side)s AND coalesce(requested_qty, qty) = %(qty)s AND status NOT IN ('new', 'denied')
          AND created_at > %(now)s - greatest(windows.duplicate, windows.repeat)
          AND client_order_id <> %(client_order_id)s""",
    "reductions": """
        SELECT to_jsonb(count(*)) FROM tradingbot_order
        WHERE account_id = %(account)s AND reduces AND created_at > %(now)s - interval '60 seconds'
          AND client_order_id <> %(client_order_id)s""",
    "pattern": """
        SELECT to_jsonb(why) FROM tradingbot_disabledpattern
        WHERE account_id = %(account)s AND strategy_id = %(strategy)s AND symbol = %(symbol)s AND side = %(side)s
          AND qty = %(qty)s AND enabled_at IS NULL""",
    "blocks": """
        SELECT coalesce(jsonb_agg(jsonb_build_array(reason, session, coalesce(waived_until > %(now)s, false))
          ORDER BY id), '[]')
        FROM tradingbot_reconciliationblock WHERE account_id = %(account)s AND lifted_at IS NULL""",
    "volatility": """
        SELECT jsonb_build_object('level', level, 'value', trim_scale(value)::text, 'as_of', as_of)
        FROM tradingbot_volatilitylevel WHERE symbol = %(volatility_symbol)s""",
    "permit": """
        SELECT jsonb_build_object('symbol', permit.symbol, 'side', side, 'qty', trim_scale(qty)::text,
          'limit_price', trim_scale(limit_price)::text, 'expires_at', expires_at, 'used', used_at IS NOT NULL,
          'by', given_by, 'account', account.code, 'strategy', strategy.code)
        FROM tradingbot_permit AS permit JOIN tradingbot_account AS account ON account.id = permit.account_id
        JOIN tradingbot_strategy AS strategy ON strategy.id = permit.strategy_id
        WHERE permit_id = %(permit_id)s""",
}
