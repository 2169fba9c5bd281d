"""Where audio comes from and where results are kept: local disk and S3."""
