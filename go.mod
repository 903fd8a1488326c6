module hotlap

go 1.25.0
