"""Opinions and markets, watched: from readings to series, forecasts and alerts."""
