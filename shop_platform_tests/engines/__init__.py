"""Tests of ENGINE=spark."""
