"""Audio sources and result tables, on local disks and S3."""
