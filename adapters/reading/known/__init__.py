"""The formats that choline-data knows by name, whether it reads them or not."""
