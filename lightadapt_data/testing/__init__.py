"""For tests of pipelines that use lightadapt-data: stand-ins for outside services."""
