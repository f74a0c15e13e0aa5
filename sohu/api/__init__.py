"""The public face of the project, as `import sohu` hands it on."""
