-- Events of one kind for a product. On live tables the platform builds it with CREATE INDEX CONCURRENTLY.
CREATE INDEX idx_events_product_type ON events (product_id, event_type);
