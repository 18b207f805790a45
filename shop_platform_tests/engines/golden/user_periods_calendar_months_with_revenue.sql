WITH firsts AS (
  SELECT
    user_id,
    MIN(timestamp) AS first_at
  FROM events
  JOIN users
    USING (user_id)
  WHERE
    CAST('signup' AS STRING) <> 'signup'
    AND event_type = 'signup'
    AND timestamp >= signup_date
    AND ISNOTNULL(timestamp)
  GROUP BY
    user_id
), begun AS (
  SELECT
    users.user_id,
    signup_date,
    CASE WHEN 'signup' = 'signup' THEN signup_date ELSE first_at END AS started_at,
    GET_JSON_OBJECT(users.attributes, CONCAT('$.', NULLIF(CAST('category' AS STRING), ''))) AS attribute
  FROM users
  LEFT JOIN firsts
    USING (user_id)
  WHERE
    ISNOTNULL(signup_date) AND (
      'signup' = 'signup' OR first_at IS NOT NULL
    )
), starts AS (
  SELECT
    *,
    TRANSFORM(
      SEQUENCE(0, CAST(4 AS INT)),
      number -> (
        CAST((
          (
            CAST(DATE_TRUNC('MONTH', CAST((
              CAST((
                started_at
              ) AS DATE)
            ) AS TIMESTAMP)) AS DATE)
          ) + MAKE_INTERVAL(0, number, 0, 0)
        ) AS TIMESTAMP)
      )
    ) AS bounds
  FROM begun
), counted AS (
  SELECT
    user_id,
    CASE
      WHEN timestamp < signup_date
      THEN 0
      ELSE SIZE(FILTER(bounds, bound -> bound <= timestamp))
    END AS place,
    COUNT(*) AS events,
    SUM(price) AS revenue
  FROM events
  JOIN starts
    USING (user_id)
  LEFT JOIN products
    ON CAST('revenue' AS STRING) = 'revenue' AND products.product_id = events.product_id
  WHERE
    ISNOTNULL(timestamp)
    AND (
      timestamp < signup_date
      OR timestamp >= started_at
      AND (
        CAST('purchased' AS STRING) = 'any' OR event_type = 'purchased'
      )
      AND (
        'revenue' = 'unbounded' OR timestamp < ELEMENT_AT(bounds, 4 + 1)
      )
    )
  GROUP BY
    user_id,
    place
), since AS (
  SELECT
    user_id,
    place,
    events,
    SUM(events) OVER (PARTITION BY user_id ORDER BY place DESC NULLS FIRST) AS events_since
  FROM counted
  WHERE
    'revenue' = 'unbounded'
), lives AS (
  SELECT
    user_id,
    BIT_OR(SHIFTLEFT(CAST(1 AS BIGINT), (
      place - 1
    ))) FILTER(WHERE
      place > 0 AND events >= CAST(1 AS BIGINT)) AS active_periods,
    CASE
      WHEN 'revenue' = 'revenue'
      THEN TO_JSON(
        MAP_FROM_ENTRIES(
          COLLECT_LIST(STRUCT(place - 1, revenue)) FILTER(WHERE
            place > 0 AND revenue <> 0)
        )
      )
    END AS revenue,
    SUM(events) FILTER(WHERE
      place = 0) AS early_events
  FROM counted
  WHERE
    'revenue' <> 'unbounded'
  GROUP BY
    user_id
  UNION ALL
  SELECT
    user_id,
    (
      SHIFTLEFT(
        CAST(1 AS BIGINT),
        LEAST(COALESCE(MAX(place) FILTER(WHERE
          place > 0 AND events_since >= 1), 0), 4)
      )
    ) - 1,
    NULL,
    SUM(events) FILTER(WHERE
      place = 0)
  FROM since
  GROUP BY
    user_id
), categories AS (
  SELECT
    user_id,
    category
  FROM (
    SELECT
      user_id AS user_id,
      category AS category,
      ROW_NUMBER() OVER (
        PARTITION BY user_id
        ORDER BY user_id NULLS LAST, timestamp NULLS LAST, event_id NULLS LAST
      ) AS _row_number
    FROM events
    JOIN starts
      USING (user_id)
    JOIN products
      USING (product_id)
    WHERE
      'category' = 'category' AND timestamp >= started_at AND ISNOTNULL(timestamp)
  ) AS _t
  WHERE
    _row_number = 1
)
SELECT
  starts.user_id,
  started_at,
  CAST(started_at AS DATE) AS started_on,
  COALESCE(category, '(none)') AS breakdown,
  COALESCE(active_periods, 0) AS active_periods,
  CASE WHEN 'revenue' = 'revenue' THEN COALESCE(revenue, '{}') END AS revenue,
  CAST(COALESCE(early_events, 0) AS BIGINT) AS early_events
FROM starts
LEFT JOIN lives
  ON lives.user_id = starts.user_id
LEFT JOIN categories
  ON categories.user_id = starts.user_id
LEFT JOIN user_segments
  ON 'category' = 'segment' AND user_segments.user_id = starts.user_id
