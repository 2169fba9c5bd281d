"""The pipeline on Ray. The only folder that imports ray."""
